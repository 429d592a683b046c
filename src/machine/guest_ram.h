// What stands behind guest RAM: memory of this process, a memfd, a file, huge pages.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"
#include "config/device_config.h"
#include "config/vm_config.h"
#include "memory/region.h"

namespace strato {

// From the options -machine memory-backend= and mem-share=, -mem-path, -mem-prealloc. Nothing has been opened.
struct GuestRamPlan {
  enum class Kind : uint8_t { Anonymous, Memfd, File };

  std::string option;  // to blame: "-mem-path", "-object mem0"
  Kind kind = Kind::Anonymous;
  std::string path{};      // File: a file, or a directory for one
  bool shared = true;      // File
  bool read_only = false;  // File
  bool dump_guest_core = true;
  bool huge_pages = true;  // transparent ones
  uint32_t populate_threads = 0;
  std::optional<NumaPolicy> numa{};

  // Whether other processes can map it (vhost-user).
  bool others_can_map() const { return kind == Kind::Memfd || (kind == Kind::File && shared); }
};
// Errors name the option.
Result<GuestRamPlan> plan_guest_ram(const VmConfig& config, std::span<const BackendConfig> backends);
// The memory object that a device names: memdev=`id`. The error says so when there is none, or when it is RAM.
Result<const BackendConfig*> find_memdev(std::string_view id, const VmConfig& config,
                                         std::span<const BackendConfig> backends);
// Of a memory object, for RAM or for a device.
Result<GuestRamPlan> plan_memory_object(const BackendConfig& backend, const VmConfig& config);

// Threads: control loop.
class GuestRam {
 public:
  // Opens or makes the file, if there is one. Errors name it, and say what the host lacks.
  static Result<GuestRam> open(GuestRamPlan plan, uint64_t bytes);

  // A region of RAM, whose place in the file is `offset` of all of it; its start, size and name are set.
  Result<> back(Region& region, uint64_t offset) const;
  // The file again, for who flushes it.
  Result<UniqueFd> file() const;
  // Nobody else sees this memory, and no file holds it: a saved machine can be mapped in its place.
  bool replaceable() const { return plan_.kind == GuestRamPlan::Kind::Anonymous; }
  const GuestRamPlan& plan() const { return plan_; }

 private:
  explicit GuestRam(GuestRamPlan plan) : plan_(std::move(plan)) {}
  Result<> open_file(uint64_t bytes);
  Result<> make_file();

  GuestRamPlan plan_;
  UniqueFd file_;
  uint64_t page_bytes_ = 0;  // of the file, when it has pages of its own
};

}  // namespace strato
