#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "base/unique_fd.h"
#include "memory/dirty_log.h"
#include "memory/guest_addr.h"
#include "memory/host_mapping.h"
#include "memory/lost_file.h"

namespace strato {

enum class RegionKind : uint8_t {
  Ram,     // guest and devices read and write
  Rom,     // guest and devices read, the loader writes
  Device,  // host memory that the guest reaches without an exit, but no device: a BAR, a shared memory window
};

struct AnonymousBacking {};
// A fresh memfd, shared, so that other processes can map it (vhost-user).
struct MemfdBacking {};
// An open file or somebody else's memfd. Private is copy on write: many clones from one snapshot file.
struct FileBacking {
  UniqueFd fd;
  uint64_t offset = 0;
  bool shared = true;
  std::string name{};    // for messages; empty: nobody can take it away
  bool writable = true;  // false: `fd` cannot be written to, so that the region is ROM
};
// A part of a region that is in no map itself. Windows on the same bytes may come and go: who still holds one that is
// gone has the memory of the next.
class MappedRegion;
struct WindowBacking {
  std::shared_ptr<const MappedRegion> whole;
  uint64_t offset = 0;  // a multiple of its page size
};
using Backing = std::variant<AnonymousBacking, MemfdBacking, FileBacking, WindowBacking>;

// On which memory nodes of the host its pages are to be.
struct NumaPolicy {
  int mode = 0;                     // MPOL_* of linux/mempolicy.h
  std::array<uint64_t, 2> nodes{};  // as bits
};

// What a saved machine has of a region.
enum class RegionSaving : uint8_t {
  Contents,
  Nothing,  // its file has them
};

// What MemoryMap::add() is asked for. Start and size are multiples of the host's page size.
struct Region {
  GuestAddr start;
  uint64_t size = 0;
  RegionKind kind = RegionKind::Ram;
  std::string name;  // unique and stable: snapshots and logs know the region by it
  Backing backing;
  uint64_t page_bytes = 0;  // of the backing (hugetlbfs); 0: the host's page size
  bool dump_guest_core = true;
  bool huge_pages = false;  // advise transparent huge pages
  std::optional<NumaPolicy> numa{};
  bool discardable = true;  // plain RAM: what a guest gives up reads zero and is the host's
  RegionSaving saving = RegionSaving::Contents;
  uint32_t populate_threads = 0;  // that make all pages be there from the start; 0: they come when they are used
};

// A region with its host memory: made by MemoryMap, immutable but for the bytes and the dirty log, unmapped with the
// last snapshot that holds it.
class MappedRegion {
 public:
  // `page_bytes` is the host's page size. The region was checked by the map.
  static Result<std::shared_ptr<const MappedRegion>> create(Region region, uint64_t page_bytes);

  MappedRegion(Region region, UniqueFd memfd, HostMapping mapping, uint64_t page_bytes);
  // A window.
  MappedRegion(Region region, uint64_t page_bytes);
  MappedRegion(const MappedRegion&) = delete;
  MappedRegion& operator=(const MappedRegion&) = delete;

  GuestAddr start() const { return region_.start; }
  uint64_t size() const { return region_.size; }
  // The address after the region; 0 when the region ends at 2^64.
  uint64_t end_raw() const { return region_.start.raw() + region_.size; }
  RegionKind kind() const { return region_.kind; }
  const std::string& name() const { return region_.name; }
  bool shared() const { return shared_; }
  int fd() const { return fd_; }  // -1: anonymous
  uint64_t fd_offset() const { return fd_offset_; }
  const std::string& file_name() const { return file_name_; }  // empty: none, or none that could get lost
  bool discardable() const { return region_.discardable; }
  RegionSaving saving() const { return region_.saving; }
  uint64_t page_bytes() const { return region_.page_bytes; }
  bool dump_guest_core() const { return region_.dump_guest_core; }
  bool huge_pages() const { return region_.huge_pages; }
  DirtyLog& dirty_log() const { return dirty_log_; }

  // Where the region lies in this process: for the tables of KVM, vhost, VFIO and userfaultfd, never to be
  // dereferenced.
  uint64_t userspace_addr() const { return reinterpret_cast<uint64_t>(host_); }

 private:
  friend class GuestSlice;
  friend class GuestMemory;
  friend class Discard;
  friend class DiscardPieces;
  std::byte* host() const { return host_; }
  Result<> bind() const;
  // Gives the kernel the region's advice for a part of it.
  Result<> advise(uint64_t offset, uint64_t len) const;

  Region region_;
  UniqueFd memfd_;
  HostMapping mapping_;  // of a window: the whole region's
  std::byte* host_ = nullptr;
  int fd_ = -1;
  uint64_t fd_offset_ = 0;
  bool shared_ = false;
  std::string file_name_;
  LostFileWatch watch_;
  mutable DirtyLog dirty_log_;
};

}  // namespace strato
