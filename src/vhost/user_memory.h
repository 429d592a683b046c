#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "vhost/user_spec.h"

namespace strato::vhost {

// Guest memory, and the rings between us and the back end, as a back end maps them: the regions of RAM that are shared,
// neighbours in one file merged into one. Immutable.
class UserMemoryTable {
 public:
  // Beyond what a guest can address (52 bits).
  static constexpr uint64_t kRingsAddress = uint64_t{1} << 52;

  // Refused: RAM that no other process can map, or more regions than a back end has room for.
  static Result<UserMemoryTable> create(std::shared_ptr<const GuestMemory> memory,
                                        std::shared_ptr<const MappedRegion> rings);

  // For SET_MEM_TABLE: its payload and its descriptors, which live as long as the table.
  std::vector<std::byte> payload() const;
  std::vector<int> fds() const;

  // The guest's address of bytes that lie at this place in our own address space; none: the back end cannot reach them
  // (ROM).
  std::optional<uint64_t> guest_address(const iovec& piece) const;

  const std::shared_ptr<const GuestMemory>& memory() const { return memory_; }

 private:
  struct Entry {
    uint64_t guest_address;
    uint64_t bytes;
    uint64_t our_address;
    uint64_t fd_offset;
    int fd;
  };
  UserMemoryTable(std::shared_ptr<const GuestMemory> memory, std::shared_ptr<const MappedRegion> rings)
      : memory_(std::move(memory)), rings_(std::move(rings)) {}
  void add(const MappedRegion& region);

  std::shared_ptr<const GuestMemory> memory_;
  std::shared_ptr<const MappedRegion> rings_;
  std::vector<Entry> entries_;
};

}  // namespace strato::vhost
