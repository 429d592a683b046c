#include "machine/guest_ram.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/checked.h"
#include "base/host_page.h"
#include "config/property.h"

namespace strato {
namespace {

using Kind = GuestRamPlan::Kind;

constexpr uint32_t kMostThreads = 16;

// More than the host has processors, or the guest, would stand in each other's way.
uint32_t default_threads(const VmConfig& config) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const bool known = ::sched_getaffinity(0, sizeof(allowed), &allowed) == 0;
  const auto host = static_cast<uint32_t>(known ? CPU_COUNT(&allowed) : 1);
  return std::min({kMostThreads, config.smp.cpus, host});
}

int mode_of(MemoryPolicy policy) {
  switch (policy) {
    case MemoryPolicy::Default:
      return MPOL_DEFAULT;
    case MemoryPolicy::Preferred:
      return MPOL_PREFERRED;
    case MemoryPolicy::Bind:
      return MPOL_BIND;
    case MemoryPolicy::Interleave:
      return MPOL_INTERLEAVE;
  }
  std::unreachable();
}

Error exclusive(std::string_view one, std::string_view other) {
  return Error::invalid(fmt::format("{} and {} exclude each other", one, other));
}

// A number that the kernel keeps of huge pages of this size.
uint64_t huge_pages(uint64_t page_bytes, std::string_view what) {
  const std::string path = fmt::format("/sys/kernel/mm/hugepages/hugepages-{}kB/{}", page_bytes / 1024, what);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[32];
  const ssize_t got = ::read(fd.get(), text, sizeof(text));
  uint64_t number = 0;
  if (got > 0) std::from_chars(text, text + got, number);
  return number;
}

// What is missing would be SIGBUS later.
Result<> check_huge_pages(uint64_t bytes, uint64_t page_bytes) {
  if (!is_aligned(bytes, page_bytes)) {
    return std::unexpected(
        Error::invalid(fmt::format("{} of RAM: must be whole pages of {}", size_text(bytes), size_text(page_bytes))));
  }
  const uint64_t free = huge_pages(page_bytes, "free_hugepages");
  const uint64_t promised = huge_pages(page_bytes, "resv_hugepages");
  const uint64_t left = free - std::min(free, promised);
  if (left >= bytes / page_bytes) return {};
  return std::unexpected(
      Error::invalid(fmt::format("{} huge pages of {} are free where {} are wanted: raise "
                                 "/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages",
                                 left, size_text(page_bytes), bytes / page_bytes, page_bytes / 1024)));
}

Result<> check_space(uint64_t bytes, const struct statfs& about) {
  const auto unit = static_cast<uint64_t>(about.f_bsize);
  // Of a file system without limits all are zero.
  if (about.f_blocks == 0 || static_cast<uint64_t>(about.f_bavail) >= bytes / unit) return {};
  return std::unexpected(
      Error::invalid(fmt::format("{} are free where {} are wanted: make room, or a larger file system",
                                 size_text(about.f_bavail * unit), size_text(bytes))));
}

}  // namespace

Result<const BackendConfig*> find_memdev(std::string_view id, const VmConfig& config,
                                         std::span<const BackendConfig> backends) {
  for (const BackendConfig& backend : backends) {
    const MemoryBackendConfig* memory = as_memory(backend);
    if (memory == nullptr || memory->id != id) continue;
    if (config.machine.memory_backend != id) return &backend;
    return std::unexpected(Error::invalid(fmt::format("memdev={}: it is guest RAM already", id)));
  }
  return std::unexpected(Error::invalid(fmt::format("memdev={0}: no -object memory-backend-* has id={0}", id)));
}

Result<GuestRamPlan> plan_memory_object(const BackendConfig& backend, const VmConfig& config) {
  const MemoryBackendConfig& memory = *as_memory(backend);
  GuestRamPlan plan{.option = fmt::format("-object {}", memory.id)};
  if (std::holds_alternative<MemoryMemfdConfig>(backend)) plan.kind = Kind::Memfd;
  if (const auto* file = std::get_if<MemoryFileConfig>(&backend)) {
    plan.kind = Kind::File;
    plan.path = file->path;
    plan.shared = memory.share.value_or(true);
    plan.read_only = file->read_only;
  }
  plan.dump_guest_core = memory.dump_guest_core && config.machine.dump_guest_core;
  plan.huge_pages = memory.huge_pages;
  if (memory.prealloc || config.memory_prealloc) {
    plan.populate_threads = memory.prealloc_threads.value_or(default_threads(config));
  }
  if (!memory.host_nodes.empty()) {
    NumaPolicy numa{.mode = mode_of(memory.policy)};
    numa.nodes = STRATO_TRY(parse_host_nodes(memory.host_nodes));
    plan.numa = numa;
  }
  return plan;
}

Result<GuestRamPlan> plan_guest_ram(const VmConfig& config, std::span<const BackendConfig> backends) {
  const MachineConfig& machine = config.machine;
  if (!machine.memory_backend.empty()) {
    if (!config.memory_path.empty()) return std::unexpected(exclusive("-machine memory-backend=", "-mem-path"));
    if (machine.mem_share) return std::unexpected(exclusive("-machine memory-backend=", "mem-share=on"));
    for (const BackendConfig& backend : backends) {
      const MemoryBackendConfig* memory = as_memory(backend);
      if (memory == nullptr || memory->id != machine.memory_backend) continue;
      const auto* file = std::get_if<MemoryFileConfig>(&backend);
      if (file != nullptr && file->read_only) {
        return std::unexpected(Error::invalid(fmt::format("-object {}: readonly=on: RAM is written to", memory->id)));
      }
      if (memory->size_bytes == config.memory_bytes) return plan_memory_object(backend, config);
      return std::unexpected(
          Error::invalid(fmt::format("-object {}: size={}: must be that of -m: {}", memory->id,
                                     size_text(memory->size_bytes), size_text(config.memory_bytes))));
    }
    return std::unexpected(Error::invalid(
        fmt::format("-machine memory-backend={0}: no -object memory-backend-* has id={0}", machine.memory_backend)));
  }
  GuestRamPlan plan{.option = "-m"};
  plan.dump_guest_core = machine.dump_guest_core;
  if (config.memory_prealloc) plan.populate_threads = default_threads(config);
  if (machine.mem_share) plan.kind = Kind::Memfd;
  if (config.memory_path.empty()) return plan;
  plan.option = "-mem-path";
  plan.kind = Kind::File;
  plan.path = config.memory_path;
  return plan;
}

Result<GuestRam> GuestRam::open(GuestRamPlan plan, uint64_t bytes) {
  GuestRam ram(std::move(plan));
  if (ram.plan_.kind != Kind::File) return ram;
  Result<> opened = ram.open_file(bytes);
  if (!opened) {
    return std::unexpected(std::move(opened).error().context(fmt::format("{} {}", ram.plan_.option, ram.plan_.path)));
  }
  return ram;
}

Result<> GuestRam::open_file(uint64_t bytes) {
  struct stat status{};
  const bool exists = ::stat(plan_.path.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) {
    STRATO_TRY(make_file());
  } else {
    file_ = UniqueFd(::open(plan_.path.c_str(), O_CLOEXEC | (plan_.read_only ? O_RDONLY : O_RDWR | O_CREAT), 0600));
    if (!file_.valid()) return std::unexpected(Error::from_errno("open"));
  }
  struct statfs about{};
  if (::fstat(file_.get(), &status) != 0 || ::fstatfs(file_.get(), &about) != 0) {
    return std::unexpected(Error::from_errno("its file system"));
  }
  if (!S_ISREG(status.st_mode)) return {};  // a device knows its size
  const auto has = static_cast<uint64_t>(status.st_size);
  if (about.f_type == HUGETLBFS_MAGIC) {
    page_bytes_ = static_cast<uint64_t>(about.f_bsize);
    if (has == 0 && !plan_.read_only) {
      STRATO_TRY(check_huge_pages(bytes, page_bytes_));
    }
  } else if (has == 0 && !plan_.read_only) {
    STRATO_TRY(check_space(bytes, about));
  }
  if (has == 0 && !plan_.read_only) {
    if (::ftruncate(file_.get(), static_cast<off_t>(bytes)) != 0)
      return std::unexpected(Error::from_errno("ftruncate"));
    return {};
  }
  if (has >= bytes) return {};
  return std::unexpected(
      Error::invalid(fmt::format("the file has {} where {} are wanted: make it as large{}", size_text(has),
                                 size_text(bytes), plan_.read_only ? "" : ", or empty")));
}

// Gone when the VM is.
Result<> GuestRam::make_file() {
  std::string name = plan_.path + "/stratovirt_backmem_XXXXXX";
  file_ = UniqueFd(::mkostemp(name.data(), O_CLOEXEC));
  if (!file_.valid()) return std::unexpected(Error::from_errno("a file in it"));
  ::unlink(name.c_str());
  plan_.shared = true;  // with nobody: what is given back must leave the file
  return {};
}

Result<UniqueFd> GuestRam::file() const {
  UniqueFd file(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0));
  if (!file.valid()) return std::unexpected(Error::from_errno(plan_.option));
  return file;
}

Result<> GuestRam::back(Region& region, uint64_t offset) const {
  region.dump_guest_core = plan_.dump_guest_core;
  region.huge_pages = plan_.huge_pages && plan_.kind != Kind::File;
  region.numa = plan_.numa;
  region.populate_threads = plan_.populate_threads;
  if (plan_.kind == Kind::Memfd) region.backing = MemfdBacking{};
  if (plan_.kind != Kind::File) return {};
  UniqueFd file = STRATO_TRY(this->file());
  region.backing = FileBacking{.fd = std::move(file),
                               .offset = offset,
                               .shared = plan_.shared,
                               .name = plan_.path,
                               .writable = !plan_.read_only};
  region.page_bytes = page_bytes_;
  return {};
}

}  // namespace strato
