// A saved machine as a value, and the directory that holds it: DIR/state (what state/ writes) and DIR/memory (guest
// RAM, region after region, zero pages left as holes). Threads: any; the writer may work on a thread of its own while
// nothing runs that changes guest memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "memory/guest_memory.h"
#include "state/field.h"

namespace strato {

// What must be the same in the process that restores.
struct MachineShape {
  std::string machine;
  std::string architecture;
  uint64_t memory_bytes = 0;
  uint32_t cpus = 0;
  uint32_t sockets = 0;
  uint32_t dies = 0;
  uint32_t clusters = 0;
  uint32_t cores = 0;
  uint32_t threads = 0;
  std::vector<std::string> components;  // names, in the order in which they are restored
  bool operator==(const MachineShape&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "machine", &MachineShape::machine},
                      Field{2, "architecture", &MachineShape::architecture},
                      Field{3, "memory_bytes", &MachineShape::memory_bytes}, Field{4, "cpus", &MachineShape::cpus},
                      Field{5, "sockets", &MachineShape::sockets}, Field{6, "dies", &MachineShape::dies},
                      Field{7, "clusters", &MachineShape::clusters}, Field{8, "cores", &MachineShape::cores},
                      Field{9, "threads", &MachineShape::threads}, Field{10, "components", &MachineShape::components});
  }
};

// Names the first difference; both are told.
Result<> check_shape(const MachineShape& saved, const MachineShape& ours);

struct SavedRegion {
  std::string name;
  uint64_t start = 0;
  uint64_t size_bytes = 0;
  uint64_t file_offset = 0;
  bool operator==(const SavedRegion&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "name", &SavedRegion::name}, Field{2, "start", &SavedRegion::start},
                      Field{3, "size_bytes", &SavedRegion::size_bytes},
                      Field{4, "file_offset", &SavedRegion::file_offset});
  }
};

struct SavedComponent {
  std::string name;
  std::vector<std::byte> state;
  bool operator==(const SavedComponent&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "name", &SavedComponent::name}, Field{2, "state", &SavedComponent::state});
  }
};

struct SavedMachine {
  static constexpr std::string_view kKind = "saved-machine";
  MachineShape shape;
  std::vector<SavedRegion> regions;
  std::vector<SavedComponent> components;
  bool operator==(const SavedMachine&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "shape", &SavedMachine::shape}, Field{2, "regions", &SavedMachine::regions},
                      Field{3, "components", &SavedMachine::components});
  }

  const SavedComponent* find(std::string_view name) const;
};

// A part of guest memory that is not to be saved: zero when it is restored.
struct SavedHole {
  uint64_t start = 0;
  uint64_t bytes = 0;
  bool operator==(const SavedHole&) const = default;
};

// Fills in `machine.regions` and writes both files under temporary names first: a directory holds a whole saved machine
// or an older one, never a half one. The directory is made when it is missing.
// `holes` are in order.
Result<> write_saved_machine(const std::string& directory, SavedMachine machine, const GuestMemory& memory,
                             std::span<const SavedHole> holes = {});

struct OpenedMachine {
  SavedMachine machine;
  UniqueFd memory;  // DIR/memory, read-only; at least as long as the regions say
};
// Checks everything that can be checked without a VM. The errors name the file.
Result<OpenedMachine> open_saved_machine(const std::string& directory);

// Reads a region into memory that is zero so far: zeros that the file does not hold are not touched. `what` is for
// errors.
Result<> load_saved_region(const OpenedMachine& opened, const SavedRegion& region, const GuestMemory& memory,
                           std::string_view what);

}  // namespace strato
