// What a virtual disk does for a device: reads, writes, flushes, asynchronously. Formats (raw, later qcow2) implement
// it. Threads: a Disk is made, resized, activated and destroyed on the control loop; capacity_bytes() and limits() any
// thread. A DiskPort belongs to one loop, and so do its requests; a disk has as many ports as loops serve its queues.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/result.h"
#include "event/event_loop.h"

namespace strato {

enum class DiskOp : uint8_t {
  Read,
  Write,
  Flush,        // all writes that were finished before are durable then
  Discard,      // the content becomes undefined; a disk that cannot does nothing
  WriteZeroes,  // reads as zeros then
};

class DiskRequest;

// Whoever submits.
class DiskClient {
 public:
  virtual ~DiskClient() = default;
  // `os_errno` 0: all of it was done. Else some of it may have been done. On the port's loop, never from inside
  // DiskPort::submit().
  virtual void finished(DiskRequest& request, int os_errno) = 0;
};

// Lies in the client's storage from submit() to finished(), with the buffers that it names: nothing is allocated per
// request.
class DiskRequest {
 public:
  DiskOp op = DiskOp::Read;
  uint64_t offset = 0;               // bytes
  uint64_t bytes = 0;                // of all buffers together; 0 for Flush. offset + bytes <= capacity_bytes()
  std::span<const iovec> buffers{};  // Read, Write; the port does not change them. At most any number: a port splits
  bool durable = false;              // Write, WriteZeroes, Discard: finished() comes when it is on stable storage (FUA)
  bool may_unmap = false;            // WriteZeroes: blocks may be given back to the host
  DiskClient* client = nullptr;

  // Of the port that has the request; nobody else touches it.
  struct PortState {
    DiskRequest* next = nullptr;
    uint64_t done_bytes = 0;
    uint32_t slot = 0;
    uint32_t pending = 0;
    void* extra = nullptr;
    int os_errno = 0;
  } port_state{};
};

// Fixed while the disk is open. All in bytes, powers of two.
struct DiskLimits {
  uint32_t request_alignment = 1;  // of offset and bytes that go through without a bounce
  uint32_t memory_alignment = 1;   // of buffers
  uint32_t block_bytes = 512;      // what the medium itself writes at once, as a hint
  uint32_t discard_alignment = 512;
  bool read_only = false;
  bool can_discard = false;
  bool can_unmap_zeroes = false;
};

// A way to a disk from one loop. Gone before the disk is.
class DiskPort {
 public:
  // Nothing is in flight.
  virtual ~DiskPort() = default;
  // Takes the request and returns at once. What was submitted in one round of the loop goes to the kernel together,
  // before the loop sleeps: so not from a hook's before_sleep(), after which ours may have been. Requests may finish in
  // any order; only Flush waits for what finished before it was submitted.
  virtual void submit(DiskRequest& request) = 0;
  // `done` once nothing of this port is in flight; at once if so. No submit() until then.
  virtual void drain(std::move_only_function<void()> done) = 0;
};

class Disk {
 public:
  virtual ~Disk() = default;
  virtual uint64_t capacity_bytes() const = 0;
  virtual const DiskLimits& limits() const = 0;
  // On the loop's thread (an io_uring belongs to the thread that made it).
  virtual Result<std::unique_ptr<DiskPort>> attach(EventLoop& loop) = 0;
  // A new size; smaller is allowed, what lies behind it is lost. The device is told by the caller.
  virtual Result<> resize(uint64_t bytes) = 0;
  // The file's size has changed by another hand (a block device grew): capacity_bytes() follows.
  virtual Result<> refresh_capacity() = 0;
  // Takes or gives back the file locks: a paused source of a migration lets its destination open the image.
  virtual Result<> activate() = 0;
  virtual void inactivate() = 0;
};

}  // namespace strato
