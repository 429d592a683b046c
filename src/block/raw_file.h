// Private to block/: what all ports of a raw disk share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/unique_fd.h"
#include "block/direct_io.h"
#include "block/disk.h"
#include "block/range_claims.h"
#include "block/raw_disk.h"
#include "block/workers.h"

namespace strato {

constexpr uint64_t kSectorBytes = 512;

// For tests: sees each call before the kernel does.
class CallFaults {
 public:
  virtual ~CallFaults() = default;
  // May make the call smaller. True: the call is not made, its result is what was put there. Any port's loop.
  virtual bool intercept(DiskCall& call) = 0;
  // What direct I/O is to ask of the file instead of what the file itself does.
  virtual std::optional<DirectAlignment> alignment() const { return {}; }
};

// Zeros to write from, aligned as direct I/O wants memory and pieces of it.
class ZeroBlock {
 public:
  // Up to 4 KiB it is a constant that all share.
  static Result<ZeroBlock> create(size_t alignment);
  ZeroBlock();
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> own_;
  std::span<const std::byte> bytes_;
};

struct RawFile {
  // What never changes.
  std::string path;
  UniqueFd fd;
  DiskLimits limits;
  bool block_device = false;
  uint32_t logical_block_bytes = 512;  // of a block device
  bool direct = false;
  bool discard = false;
  DetectZeroes detect_zeroes = DetectZeroes::Off;
  uint64_t page_bytes = 0;  // of the host
  ZeroBlock zeros;          // what WriteZeroes writes where the kernel has nothing better
  CallFaults* faults = nullptr;

  std::atomic<uint64_t> capacity_bytes{0};

  // After a failed fdatasync the kernel takes the lost pages for clean, and the next one would succeed: so none is
  // asked for any more. 0, or the errno of that one.
  std::atomic<int> sync_errno{0};
  // Found out by trying.
  std::atomic<bool> can_punch{true};
  std::atomic<bool> can_zero_range{true};
  std::atomic<bool> can_discard_blocks{true};

  // Direct only: writes, for the sake of those that have to read the rest of their blocks first.
  RangeClaims writes;
  // One fdatasync at a time: of two, one is told of an error and the other succeeds.
  RangeClaims syncs;

  Workers workers;
};

}  // namespace strato
