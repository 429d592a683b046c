#include "hypervisor/kvm/x86_64.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "hypervisor/kvm/kvm_ioctl.h"

namespace strato {
namespace {

// KVM takes at most 256 registers in one call.
constexpr size_t kMsrBatch = 128;
constexpr uint32_t kMostCpuidEntries = 1024;

// The header-plus-array structs of KVM, as one block of bytes.
template <class Header, class Entry>
class ArrayRequest {
 public:
  ArrayRequest(const Header& header, size_t entries) : bytes_(sizeof(Header) + entries * sizeof(Entry)) {
    std::memcpy(bytes_.data(), &header, sizeof(header));
  }
  void* data() { return bytes_.data(); }
  Header header() const {
    Header header;
    std::memcpy(&header, bytes_.data(), sizeof(header));
    return header;
  }
  std::vector<Entry> entries(size_t count) const {
    std::vector<Entry> entries(count);
    if (count != 0) std::memcpy(entries.data(), bytes_.data() + sizeof(Header), count * sizeof(Entry));
    return entries;
  }
  void set_entries(std::span<const Entry> entries) {
    if (!entries.empty()) std::memcpy(bytes_.data() + sizeof(Header), entries.data(), entries.size_bytes());
  }

 private:
  std::vector<std::byte> bytes_;
};

template <class T>
Result<T> read_state(int fd, unsigned long request, std::string_view what, T state = {}) {
  STRATO_TRY(kvm_call(fd, request, &state, what));
  return state;
}

Result<std::vector<kvm_cpuid_entry2>> read_cpuid(int fd, unsigned long request_number, std::string_view what) {
  for (uint32_t most = 128; most <= kMostCpuidEntries; most *= 2) {
    kvm_cpuid2 header{};
    header.nent = most;
    ArrayRequest<kvm_cpuid2, kvm_cpuid_entry2> request(header, most);
    if (kvm_ioctl(fd, request_number, request.data()) == 0) {
      return request.entries(std::min(request.header().nent, most));
    }
    if (errno != E2BIG) break;
  }
  return std::unexpected(Error::from_errno(what));
}

std::string segment_text(const char* name, const kvm_segment& segment) {
  return fmt::format("{} {:04x} base {:x} limit {:x} type {:x} l {} db {}\n", name, segment.selector,
                     static_cast<uint64_t>(segment.base), segment.limit, segment.type, segment.l, segment.db);
}

// 16 bytes from the instruction pointer on, as far as they are RAM.
std::string code_text(const Vcpu& vcpu, const kvm_regs& regs, const kvm_sregs& sregs) {
  constexpr uint64_t kBytes = 16;
  const bool long_mode = sregs.cs.l != 0;
  kvm_translation translation{};
  translation.linear_address = long_mode ? regs.rip : static_cast<uint32_t>(sregs.cs.base + regs.rip);
  if (kvm_ioctl(vcpu.fd(), KVM_TRANSLATE, &translation) < 0 || translation.valid == 0) return "code: not mapped";

  const std::shared_ptr<const GuestMemory> memory = vcpu.memory().snapshot();
  std::string text = fmt::format("code at physical {:x}:", static_cast<uint64_t>(translation.physical_address));
  const uint64_t in_page = 4096 - translation.physical_address % 4096;
  for (uint64_t i = 0; i < std::min(kBytes, in_page); ++i) {
    std::byte byte;
    if (!memory->read_bytes(GuestAddr(translation.physical_address + i), {&byte, 1})) return text + " no RAM";
    text += fmt::format(" {:02x}", std::to_integer<unsigned>(byte));
  }
  return text;
}

kvm_device_attr tsc_offset_attribute(uint64_t& offset) {
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uintptr_t>(&offset);
  return attribute;
}

}  // namespace

Result<std::vector<kvm_cpuid_entry2>> supported_cpuid(const Kvm& kvm) {
  return read_cpuid(kvm.fd(), KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID");
}

Result<std::vector<kvm_cpuid_entry2>> cpuid(const Vcpu& vcpu) {
  return read_cpuid(vcpu.fd(), KVM_GET_CPUID2, "KVM_GET_CPUID2");
}

Result<std::vector<uint32_t>> msr_indexes(const Kvm& kvm) {
  kvm_msr_list header{};
  // The first call only tells the number, by failing.
  if (kvm_ioctl(kvm.fd(), KVM_GET_MSR_INDEX_LIST, &header) < 0 && errno != E2BIG) {
    return std::unexpected(Error::from_errno("KVM_GET_MSR_INDEX_LIST"));
  }
  const uint32_t count = header.nmsrs;
  ArrayRequest<kvm_msr_list, uint32_t> request(header, count);
  STRATO_TRY(kvm_call(kvm.fd(), KVM_GET_MSR_INDEX_LIST, request.data(), "KVM_GET_MSR_INDEX_LIST"));
  return request.entries(std::min(request.header().nmsrs, count));
}

Result<> set_tss_address(const Vm& vm, uint32_t address) {
  return kvm_call(vm.fd(), KVM_SET_TSS_ADDR, static_cast<unsigned long>(address), "KVM_SET_TSS_ADDR");
}

Result<> set_identity_map_address(const Vm& vm, uint64_t address) {
  return kvm_call(vm.fd(), KVM_SET_IDENTITY_MAP_ADDR, &address, "KVM_SET_IDENTITY_MAP_ADDR");
}

Result<> create_pit(const Vm& vm) {
  kvm_pit_config config{};
  config.flags = KVM_PIT_SPEAKER_DUMMY;
  return kvm_call(vm.fd(), KVM_CREATE_PIT2, &config, "KVM_CREATE_PIT2");
}

Result<> enable_x2apic_ids(const Vm& vm) {
  return vm.enable_capability(KVM_CAP_X2APIC_API,
                              KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
}

Result<kvm_irqchip> irqchip(const Vm& vm, uint32_t chip_id) {
  kvm_irqchip state{};
  state.chip_id = chip_id;
  return read_state(vm.fd(), KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP", state);
}

Result<> set_irqchip(const Vm& vm, const kvm_irqchip& state) {
  return kvm_call(vm.fd(), KVM_SET_IRQCHIP, &state, "KVM_SET_IRQCHIP");
}

Result<kvm_pit_state2> pit(const Vm& vm) {
  return read_state<kvm_pit_state2>(vm.fd(), KVM_GET_PIT2, "KVM_GET_PIT2");
}

Result<> set_pit(const Vm& vm, const kvm_pit_state2& state) {
  return kvm_call(vm.fd(), KVM_SET_PIT2, &state, "KVM_SET_PIT2");
}

Result<kvm_clock_data> vm_clock(const Vm& vm) {
  return read_state<kvm_clock_data>(vm.fd(), KVM_GET_CLOCK, "KVM_GET_CLOCK");
}

Result<> set_vm_clock(const Vm& vm, const kvm_clock_data& clock) {
  return kvm_call(vm.fd(), KVM_SET_CLOCK, &clock, "KVM_SET_CLOCK");
}

std::vector<kvm_irq_routing_entry> default_irq_routes() {
  constexpr uint32_t kPicPins = 8;
  std::vector<kvm_irq_routing_entry> entries;
  const auto add = [&entries](uint32_t gsi, uint32_t chip, uint32_t pin) {
    kvm_irq_routing_entry entry{};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = chip;
    entry.u.irqchip.pin = pin;
    entries.push_back(entry);
  };
  for (uint32_t gsi = 0; gsi < KVM_IOAPIC_NUM_PINS; ++gsi) {
    add(gsi, KVM_IRQCHIP_IOAPIC, gsi);
    if (gsi < 2 * kPicPins) {
      add(gsi, gsi < kPicPins ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi % kPicPins);
    }
  }
  return entries;
}

Result<> set_cpuid(const Vcpu& vcpu, std::span<const kvm_cpuid_entry2> entries) {
  kvm_cpuid2 header{};
  header.nent = static_cast<uint32_t>(entries.size());
  ArrayRequest<kvm_cpuid2, kvm_cpuid_entry2> request(header, entries.size());
  request.set_entries(entries);
  return kvm_call(vcpu.fd(), KVM_SET_CPUID2, request.data(), "KVM_SET_CPUID2");
}

Result<kvm_regs> regs(const Vcpu& vcpu) {
  return read_state<kvm_regs>(vcpu.fd(), KVM_GET_REGS, "KVM_GET_REGS");
}
Result<> set_regs(const Vcpu& vcpu, const kvm_regs& regs) {
  return kvm_call(vcpu.fd(), KVM_SET_REGS, &regs, "KVM_SET_REGS");
}
Result<kvm_sregs> sregs(const Vcpu& vcpu) {
  return read_state<kvm_sregs>(vcpu.fd(), KVM_GET_SREGS, "KVM_GET_SREGS");
}
Result<> set_sregs(const Vcpu& vcpu, const kvm_sregs& sregs) {
  return kvm_call(vcpu.fd(), KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
}
Result<std::vector<std::byte>> xsave(const Vcpu& vcpu) {
  const int size = vcpu.vm().capability(KVM_CAP_XSAVE2);
  std::vector<std::byte> area(std::max<size_t>(static_cast<size_t>(size), sizeof(kvm_xsave)));
  if (size == 0) {  // before Linux 5.17
    STRATO_TRY(kvm_call(vcpu.fd(), KVM_GET_XSAVE, area.data(), "KVM_GET_XSAVE"));
  } else {
    STRATO_TRY(kvm_call(vcpu.fd(), KVM_GET_XSAVE2, area.data(), "KVM_GET_XSAVE2"));
  }
  return area;
}

Result<> set_xsave(const Vcpu& vcpu, std::span<const std::byte> area) {
  // KVM reads as much as this host's guests can have, whatever we give.
  const auto wanted = std::max(static_cast<size_t>(vcpu.vm().capability(KVM_CAP_XSAVE2)), sizeof(kvm_xsave));
  if (area.size() != wanted) {
    return std::unexpected(Error::unsupported(fmt::format(
        "the extended registers were saved as {} bytes, this host has {}: another processor", area.size(), wanted)));
  }
  return kvm_call(vcpu.fd(), KVM_SET_XSAVE, area.data(), "KVM_SET_XSAVE");
}

Result<uint64_t> xcr0(const Vcpu& vcpu) {
  const kvm_xcrs xcrs = STRATO_TRY(read_state<kvm_xcrs>(vcpu.fd(), KVM_GET_XCRS, "KVM_GET_XCRS"));
  if (xcrs.nr_xcrs != 1 || xcrs.xcrs[0].xcr != 0) {
    return std::unexpected(Error::unsupported("KVM_GET_XCRS gave more than XCR0"));
  }
  return xcrs.xcrs[0].value;
}
Result<> set_xcr0(const Vcpu& vcpu, uint64_t value) {
  kvm_xcrs xcrs{};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].value = value;
  return kvm_call(vcpu.fd(), KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS");
}
Result<kvm_debugregs> debug_regs(const Vcpu& vcpu) {
  return read_state<kvm_debugregs>(vcpu.fd(), KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS");
}
Result<> set_debug_regs(const Vcpu& vcpu, const kvm_debugregs& regs) {
  return kvm_call(vcpu.fd(), KVM_SET_DEBUGREGS, &regs, "KVM_SET_DEBUGREGS");
}
Result<kvm_lapic_state> lapic(const Vcpu& vcpu) {
  return read_state<kvm_lapic_state>(vcpu.fd(), KVM_GET_LAPIC, "KVM_GET_LAPIC");
}
Result<> set_lapic(const Vcpu& vcpu, const kvm_lapic_state& lapic) {
  return kvm_call(vcpu.fd(), KVM_SET_LAPIC, &lapic, "KVM_SET_LAPIC");
}
Result<uint32_t> mp_state(const Vcpu& vcpu) {
  const kvm_mp_state state = STRATO_TRY(read_state<kvm_mp_state>(vcpu.fd(), KVM_GET_MP_STATE, "KVM_GET_MP_STATE"));
  return state.mp_state;
}
Result<> set_mp_state(const Vcpu& vcpu, uint32_t state) {
  kvm_mp_state request{.mp_state = state};
  return kvm_call(vcpu.fd(), KVM_SET_MP_STATE, &request, "KVM_SET_MP_STATE");
}
Result<kvm_vcpu_events> vcpu_events(const Vcpu& vcpu) {
  return read_state<kvm_vcpu_events>(vcpu.fd(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS");
}
Result<> set_vcpu_events(const Vcpu& vcpu, const kvm_vcpu_events& events) {
  return kvm_call(vcpu.fd(), KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
}

Result<std::vector<kvm_msr_entry>> msrs(const Vcpu& vcpu, std::span<const uint32_t> indexes) {
  std::vector<kvm_msr_entry> found;
  while (!indexes.empty()) {
    const size_t count = std::min(indexes.size(), kMsrBatch);
    std::vector<kvm_msr_entry> wanted(count);
    for (size_t i = 0; i < count; ++i) wanted[i].index = indexes[i];
    kvm_msrs header{};
    header.nmsrs = static_cast<uint32_t>(count);
    ArrayRequest<kvm_msrs, kvm_msr_entry> request(header, count);
    request.set_entries(wanted);

    const int read = kvm_ioctl(vcpu.fd(), KVM_GET_MSRS, request.data());
    if (read < 0) return std::unexpected(Error::from_errno("KVM_GET_MSRS"));
    // KVM stops at one that it cannot read: leave that one out.
    const auto done = std::min(static_cast<size_t>(read), count);
    const std::vector<kvm_msr_entry> entries = request.entries(done);
    found.insert(found.end(), entries.begin(), entries.end());
    indexes = indexes.subspan(std::min(indexes.size(), done < count ? done + 1 : done));
  }
  return found;
}

Result<size_t> write_msrs(const Vcpu& vcpu, std::span<const kvm_msr_entry> entries) {
  size_t total = 0;
  while (total < entries.size()) {
    const std::span<const kvm_msr_entry> batch = entries.subspan(total, std::min(entries.size() - total, kMsrBatch));
    kvm_msrs header{};
    header.nmsrs = static_cast<uint32_t>(batch.size());
    ArrayRequest<kvm_msrs, kvm_msr_entry> request(header, batch.size());
    request.set_entries(batch);
    const int written = kvm_ioctl(vcpu.fd(), KVM_SET_MSRS, request.data());
    if (written < 0) return std::unexpected(Error::from_errno("KVM_SET_MSRS"));
    total += static_cast<size_t>(written);
    if (static_cast<size_t>(written) < batch.size()) break;
  }
  return total;
}

Result<> set_msrs(const Vcpu& vcpu, std::span<const kvm_msr_entry> entries) {
  const size_t written = STRATO_TRY(write_msrs(vcpu, entries));
  if (written == entries.size()) return {};
  const kvm_msr_entry& refused = entries[written];
  return std::unexpected(Error::unsupported(
      fmt::format("KVM refuses the value {:#x} for MSR {:#x}", static_cast<uint64_t>(refused.data), refused.index)));
}

Result<std::vector<std::byte>> nested_state(const Vcpu& vcpu) {
  const auto most = static_cast<size_t>(vcpu.vm().capability(KVM_CAP_NESTED_STATE));
  if (most < sizeof(kvm_nested_state)) return {};
  std::vector<std::byte> area(most);
  kvm_nested_state header{};
  header.size = static_cast<uint32_t>(most);
  std::memcpy(area.data(), &header, sizeof(header));
  STRATO_TRY(kvm_call(vcpu.fd(), KVM_GET_NESTED_STATE, area.data(), "KVM_GET_NESTED_STATE"));
  std::memcpy(&header, area.data(), sizeof(header));
  const bool idle_vmx = header.format == KVM_STATE_NESTED_FORMAT_VMX && header.hdr.vmx.vmxon_pa == UINT64_MAX;
  const bool idle_svm = header.format == KVM_STATE_NESTED_FORMAT_SVM && header.flags == KVM_STATE_NESTED_GIF_SET;
  if (idle_vmx || idle_svm) return {};
  area.resize(std::min<size_t>(header.size, most));
  return area;
}

Result<> set_nested_state(const Vcpu& vcpu, std::span<const std::byte> state) {
  // KVM believes the size in the header.
  kvm_nested_state header{};
  if (state.size() < sizeof(header)) return std::unexpected(Error::invalid("the nested state is truncated"));
  std::memcpy(&header, state.data(), sizeof(header));
  if (header.size != state.size()) return std::unexpected(Error::invalid("the nested state has a wrong size"));
  return kvm_call(vcpu.fd(), KVM_SET_NESTED_STATE, state.data(), "KVM_SET_NESTED_STATE");
}

Result<uint32_t> tsc_khz(const Vcpu& vcpu) {
  const int khz = kvm_ioctl(vcpu.fd(), KVM_GET_TSC_KHZ, 0UL);
  if (khz < 0) return std::unexpected(Error::from_errno("KVM_GET_TSC_KHZ"));
  return static_cast<uint32_t>(khz);
}

Result<> set_tsc_khz(const Vcpu& vcpu, uint32_t khz) {
  return kvm_call(vcpu.fd(), KVM_SET_TSC_KHZ, static_cast<unsigned long>(khz), "KVM_SET_TSC_KHZ");
}

uint32_t irq_line_number(uint32_t gsi) {
  return gsi;
}

std::optional<Result<>> serve_arch_exit(const Vcpu& /*vcpu*/, const kvm_run& /*run*/) {
  return std::nullopt;
}

std::string describe_vcpu(const Vcpu& vcpu) {
  const Result<kvm_regs> general = regs(vcpu);
  const Result<kvm_sregs> special = sregs(vcpu);
  if (!general || !special) return "registers cannot be read";
  const auto hex = [](auto value) { return fmt::format("{:016x}", static_cast<uint64_t>(value)); };
  const kvm_regs& r = *general;
  const kvm_sregs& s = *special;
  std::string text;
  text += fmt::format("rip {} flags {}\n", hex(r.rip), hex(r.rflags));
  text += fmt::format("rax {} rbx {} rcx {} rdx {}\n", hex(r.rax), hex(r.rbx), hex(r.rcx), hex(r.rdx));
  text += fmt::format("rsi {} rdi {} rsp {} rbp {}\n", hex(r.rsi), hex(r.rdi), hex(r.rsp), hex(r.rbp));
  text += fmt::format("r8  {} r9  {} r10 {} r11 {}\n", hex(r.r8), hex(r.r9), hex(r.r10), hex(r.r11));
  text += fmt::format("r12 {} r13 {} r14 {} r15 {}\n", hex(r.r12), hex(r.r13), hex(r.r14), hex(r.r15));
  text +=
      fmt::format("cr0 {} cr2 {} cr3 {} cr4 {} efer {}\n", hex(s.cr0), hex(s.cr2), hex(s.cr3), hex(s.cr4), hex(s.efer));
  text += segment_text("cs", s.cs) + segment_text("ss", s.ss);
  text += fmt::format("gdt {:x}+{:x} idt {:x}+{:x}\n", static_cast<uint64_t>(s.gdt.base), s.gdt.limit,
                      static_cast<uint64_t>(s.idt.base), s.idt.limit);
  return text + code_text(vcpu, r, s);
}

Result<std::optional<uint64_t>> tsc_offset(const Vcpu& vcpu) {
  uint64_t offset = 0;
  const kvm_device_attr attribute = tsc_offset_attribute(offset);
  if (kvm_ioctl(vcpu.fd(), KVM_HAS_DEVICE_ATTR, &attribute) < 0) return std::nullopt;
  STRATO_TRY(kvm_call(vcpu.fd(), KVM_GET_DEVICE_ATTR, &attribute, "KVM_GET_DEVICE_ATTR (KVM_VCPU_TSC_OFFSET)"));
  return offset;
}

Result<> set_tsc_offset(const Vcpu& vcpu, uint64_t offset) {
  const kvm_device_attr attribute = tsc_offset_attribute(offset);
  return kvm_call(vcpu.fd(), KVM_SET_DEVICE_ATTR, &attribute, "KVM_SET_DEVICE_ATTR (KVM_VCPU_TSC_OFFSET)");
}

// KVM refuses when the guest has no kvm-clock: then there is nobody to tell.
void announce_pause(const Vcpu& vcpu) {
  kvm_ioctl(vcpu.fd(), KVM_KVMCLOCK_CTRL, 0UL);
}

}  // namespace strato
