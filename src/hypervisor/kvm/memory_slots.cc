#include "hypervisor/kvm/memory_slots.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "base/log.h"
#include "hypervisor/kvm/kvm_ioctl.h"

namespace strato {
namespace {

uint32_t flags_of(const MappedRegion& region, bool logging) {
  if (region.kind() == RegionKind::Rom) return KVM_MEM_READONLY;
  if (region.kind() == RegionKind::Ram && logging) return KVM_MEM_LOG_DIRTY_PAGES;
  return 0;
}

std::string slot_name(const kvm_userspace_memory_region& region) {
  return fmt::format("memory slot {} ({:#x}+{:#x})", region.slot, region.guest_phys_addr, region.memory_size);
}

}  // namespace

KvmMemorySlots::KvmMemorySlots(const Vm& vm)
    : KvmMemorySlots(Kernel{
          .slot_limit = static_cast<uint32_t>(vm.capability(KVM_CAP_NR_MEMSLOTS)),
          .set_slot =
              [&vm](const kvm_userspace_memory_region& region) {
                return kvm_call(vm.fd(), KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
              },
          .protect_manually =
              [&vm] {
                return vm.enable_capability(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
              },
          .read_dirty_log =
              [&vm](const kvm_dirty_log& log) {
                return kvm_call(vm.fd(), KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG");
              },
          .clear_dirty_log =
              [&vm](const kvm_clear_dirty_log& clear) {
                return kvm_call(vm.fd(), KVM_CLEAR_DIRTY_LOG, &clear, "KVM_CLEAR_DIRTY_LOG");
              },
      }) {}

KvmMemorySlots::KvmMemorySlots(Kernel kernel, uint64_t page_bytes)
    : kernel_(std::move(kernel)), page_bytes_(page_bytes) {}

Result<uint32_t> KvmMemorySlots::allocate() const {
  const auto place = std::ranges::find_if(slots_, [](const std::optional<Slot>& slot) { return !slot; });
  const auto number = static_cast<uint32_t>(place - slots_.begin());
  if (number >= kernel_.slot_limit) {
    return std::unexpected(
        Error::unsupported(fmt::format("all {} memory slots of KVM are in use", kernel_.slot_limit)));
  }
  return number;
}

Result<> KvmMemorySlots::add(uint32_t number, Slot slot) {
  slot.region.slot = number;
  Result<> set = kernel_.set_slot(slot.region);
  if (!set) return std::unexpected(std::move(set).error().context(slot_name(slot.region)));
  if (number >= slots_.size()) slots_.resize(number + 1);
  slots_[number] = std::move(slot);
  return {};
}

Result<> KvmMemorySlots::remove(uint32_t number) {
  kvm_userspace_memory_region gone = slots_[number]->region;
  gone.memory_size = 0;
  Result<> set = kernel_.set_slot(gone);
  if (!set) return std::unexpected(std::move(set).error().context("removing " + slot_name(slots_[number]->region)));
  slots_[number].reset();
  return {};
}

std::optional<uint32_t> KvmMemorySlots::slot_of(const MappedRegion& region) const {
  for (uint32_t number = 0; number < slots_.size(); ++number) {
    if (slots_[number] && slots_[number]->mapped.get() == &region) return number;
  }
  return std::nullopt;
}

Result<> KvmMemorySlots::commit(const MemoryUpdate& update) {
  // Undone backwards, each by what it was: KVM has accepted that before.
  std::vector<std::pair<uint32_t, std::optional<Slot>>> undo;
  const auto roll_back = [&](Error error) -> Result<> {
    for (auto step = undo.rbegin(); step != undo.rend(); ++step) {
      const Result<> undone = step->second ? add(step->first, *step->second) : remove(step->first);
      if (!undone) log(LogLevel::Error, "memory slots are out of step with the map: {}", undone.error().text());
    }
    return std::unexpected(std::move(error));
  };

  for (const auto& region : update.removed) {
    const std::optional<uint32_t> number = slot_of(*region);
    STRATO_ASSERT(number.has_value());
    std::optional<Slot> before = slots_[*number];
    Result<> removed = remove(*number);
    if (!removed) return roll_back(std::move(removed).error());
    undo.emplace_back(*number, std::move(before));
  }
  for (const auto& region : update.added) {
    Slot slot;
    slot.region.flags = flags_of(*region, logging_);
    slot.region.guest_phys_addr = region->start().raw();
    slot.region.memory_size = region->size();
    slot.region.userspace_addr = region->userspace_addr();
    slot.mapped = region;
    const Result<uint32_t> number = allocate();
    if (!number) return roll_back(Error(number.error()).context(region->name()));
    Result<> added = add(*number, std::move(slot));
    if (!added) return roll_back(std::move(added).error().context(region->name()));
    undo.emplace_back(*number, std::nullopt);
  }
  return {};
}

Result<uint32_t> KvmMemorySlots::map(uint64_t guest_address, uint64_t host_address, uint64_t size_bytes,
                                     bool read_only) {
  if (size_bytes == 0 || !is_aligned(guest_address | host_address | size_bytes, page_bytes_)) {
    return std::unexpected(
        Error::invalid(fmt::format("memory for the guest at {:#x}+{:#x} is not made of whole pages of {} bytes",
                                   guest_address, size_bytes, page_bytes_)));
  }
  Slot slot;
  slot.region.flags = read_only ? KVM_MEM_READONLY : 0;
  slot.region.guest_phys_addr = guest_address;
  slot.region.memory_size = size_bytes;
  slot.region.userspace_addr = host_address;
  const uint32_t number = STRATO_TRY(allocate());
  STRATO_TRY(add(number, std::move(slot)));
  return number;
}

Result<> KvmMemorySlots::unmap(uint32_t slot) {
  if (slot >= slots_.size() || !slots_[slot] || slots_[slot]->mapped != nullptr) {
    return std::unexpected(Error::not_found(fmt::format("memory slot {} is not mapped", slot)));
  }
  return remove(slot);
}

Result<> KvmMemorySlots::set_flags(uint32_t number, uint32_t flags) {
  Slot slot = *slots_[number];
  if (slot.region.flags == flags) return {};
  slot.region.flags = flags;
  return add(number, std::move(slot));
}

Result<> KvmMemorySlots::start_dirty_log() {
  // Manual protection: pages are protected again when their bits were taken, not when they are looked at.
  STRATO_TRY(kernel_.protect_manually());
  for (uint32_t number = 0; number < slots_.size(); ++number) {
    if (!slots_[number] || slots_[number]->mapped == nullptr) continue;
    STRATO_TRY(set_flags(number, flags_of(*slots_[number]->mapped, true)));
  }
  logging_ = true;
  return {};
}

Result<> KvmMemorySlots::stop_dirty_log() {
  logging_ = false;
  for (uint32_t number = 0; number < slots_.size(); ++number) {
    if (!slots_[number] || slots_[number]->mapped == nullptr) continue;
    STRATO_TRY(set_flags(number, flags_of(*slots_[number]->mapped, false)));
  }
  return {};
}

Result<> KvmMemorySlots::collect_dirty_log() {
  for (uint32_t number = 0; number < slots_.size(); ++number) {
    if (!slots_[number] || (slots_[number]->region.flags & KVM_MEM_LOG_DIRTY_PAGES) == 0) continue;
    STRATO_TRY(collect(number, *slots_[number]));
  }
  return {};
}

Result<> KvmMemorySlots::collect(uint32_t number, const Slot& slot) {
  const uint64_t pages = slot.region.memory_size / page_bytes_;
  std::vector<uint64_t> bits((pages + 63) / 64);
  kvm_dirty_log log{};
  log.slot = number;
  log.dirty_bitmap = bits.data();
  STRATO_TRY(kernel_.read_dirty_log(log));
  if (std::ranges::all_of(bits, [](uint64_t word) { return word == 0; })) return {};
  // Into our log first: should clearing fail, a page is taken twice and none is lost.
  slot.mapped->dirty_log().merge(bits);
  kvm_clear_dirty_log clear{};
  clear.slot = number;
  clear.first_page = 0;
  clear.num_pages = static_cast<uint32_t>(pages);  // a multiple of 64, or up to the end of the slot
  clear.dirty_bitmap = bits.data();
  return kernel_.clear_dirty_log(clear);
}

}  // namespace strato
