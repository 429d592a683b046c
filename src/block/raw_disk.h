// A disk that is a regular file or a block device as it is.
// Threads: see disk.h. open() may wait up to Args::lock_patience for a lock; never while vCPUs run.
// Limits:  a file is served in whole sectors of 512 bytes. One that ends within a sector reads as zeros from there to
//          the sector's end, and a write to that sector makes the file longer, up to that end.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/host_page.h"
#include "base/unique_fd.h"
#include "block/disk.h"
#include "block/disk_engines.h"
#include "block/file_lock.h"

namespace strato {

class CallFaults;
struct RawFile;

enum class DetectZeroes : uint8_t {
  Off,
  On,     // a write of nothing but zeros becomes WriteZeroes
  Unmap,  // ... that may give blocks back, where discard = Unmap
};

class RawDisk final : public Disk {
 public:
  struct Args {
    std::string path;  // also for messages
    UniqueFd fd{};     // valid: `path` is not opened
    bool read_only = false;
    bool direct = true;  // O_DIRECT
    DiskEngine engine = DiskEngine::Auto;
    Locking locking = Locking::Auto;
    bool discard = false;  // unmap, else ignore
    DetectZeroes detect_zeroes = DetectZeroes::Off;
    bool active = true;  // false: without locks until activate(), as for the destination of a migration
    std::chrono::milliseconds lock_patience{2000};
    uint64_t page_bytes = host_page_size();
    CallFaults* faults = nullptr;  // for tests (raw_file.h)
  };

  // `engines` outlives the disk.
  static Result<std::unique_ptr<RawDisk>> open(DiskEngines& engines, Args args);
  // Its ports are gone.
  ~RawDisk() override;

  uint64_t capacity_bytes() const override;
  const DiskLimits& limits() const override;
  Result<std::unique_ptr<DiskPort>> attach(EventLoop& loop) override;
  // A block device has the size that it has: for it this is refresh_capacity(), and an error if that is another size.
  Result<> resize(uint64_t bytes) override;
  Result<> refresh_capacity() override;
  Result<> activate() override;
  void inactivate() override;

 private:
  RawDisk(DiskEngines& engines, DiskEngine engine, std::unique_ptr<RawFile> file, Locking locking);

  DiskEngines& engines_;
  const DiskEngine engine_;
  const std::unique_ptr<RawFile> file_;
  FileLock lock_;
};

}  // namespace strato
