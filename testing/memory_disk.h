// A disk in memory for tests of devices: finishes requests by itself or when told, fails those that it is told to, and
// remembers what came in which order and what would have survived a loss of power.
// Threads: what MemoryDisk offers itself, any; step() and finish() on the loop of the port that has the request.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/mutex.h"
#include "block/disk.h"
#include "event/lifetime.h"

namespace strato {

class MemoryDisk final : public Disk {
 public:
  struct Record {
    enum class What : uint8_t { Submitted, Finished };
    What what = What::Submitted;
    DiskOp op = DiskOp::Read;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    bool durable = false;
    bool may_unmap = false;
    int os_errno = 0;  // of Finished
    bool operator==(const Record&) const = default;
  };

  explicit MemoryDisk(uint64_t capacity_bytes, const DiskLimits& limits = {})
      : limits_(limits), capacity_(capacity_bytes), data_(capacity_bytes), stable_(capacity_bytes) {}
  ~MemoryDisk() override {
    MutexLock lock(mutex_);
    STRATO_ASSERT(waiting_.empty());
  }

  // --- when requests finish

  // From now on requests wait for step() and finish(). Without it each finishes in the next round of its port's loop.
  void hold() { held_ = true; }
  // The end of hold(): what waits finishes in the next round of its loop.
  void release() {
    held_ = false;
    std::vector<Waiting> all;
    {
      MutexLock lock(mutex_);
      all.swap(waiting_);
    }
    for (const Waiting& one : all) one.port->finish_later(one);
  }
  size_t waiting() const {
    MutexLock lock(mutex_);
    return waiting_.size();
  }
  // Finishes the oldest request that waits; false: none does.
  bool step() { return finish(0); }
  // Finishes the one at `index` of those that wait, the oldest first; false: there are not so many.
  bool finish(size_t index) {
    std::optional<Waiting> one;
    {
      MutexLock lock(mutex_);
      if (index >= waiting_.size()) return false;
      one = waiting_[index];
      waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(index));
    }
    one->port->finish_now(*one);
    return true;
  }

  // --- what fails

  // Of the requests of this kind that finish from now on, `count` fail with `os_errno`, after `skip` that do not. They
  // change nothing. Replaces what was said before for this kind; count 0 heals.
  void fail(DiskOp op, int os_errno, uint32_t skip = 0, uint32_t count = 1) {
    MutexLock lock(mutex_);
    std::erase_if(failures_, [op](const Failure& one) { return one.op == op; });
    if (count > 0) failures_.push_back({op, os_errno, skip, count});
  }
  // activate() fails so from now on.
  void fail_activation(std::optional<Error> error) {
    MutexLock lock(mutex_);
    activation_error_ = std::move(error);
  }

  // --- what happened

  std::vector<Record> records() const {
    MutexLock lock(mutex_);
    return records_;
  }
  // Only those that finished, as the operations that they were, in that order.
  std::vector<DiskOp> finished_ops() const {
    MutexLock lock(mutex_);
    std::vector<DiskOp> ops;
    for (const Record& one : records_) {
      if (one.what == Record::What::Finished) ops.push_back(one.op);
    }
    return ops;
  }
  void forget_records() {
    MutexLock lock(mutex_);
    records_.clear();
  }
  std::vector<std::byte> content(uint64_t offset, uint64_t bytes) const { return copy(data_, offset, bytes); }
  // What the medium would hold after a loss of power now: durable writes, and those that had finished when a flush was
  // submitted that has finished by now.
  std::vector<std::byte> stable_content(uint64_t offset, uint64_t bytes) const { return copy(stable_, offset, bytes); }
  // As if it had always been there.
  void fill(uint64_t offset, std::span<const std::byte> data) {
    MutexLock lock(mutex_);
    STRATO_ASSERT(offset <= data_.size() && data.size() <= data_.size() - offset);
    std::ranges::copy(data, data_.begin() + static_cast<ptrdiff_t>(offset));
    std::ranges::copy(data, stable_.begin() + static_cast<ptrdiff_t>(offset));
  }
  bool active() const { return active_; }
  size_t ports() const { return ports_; }

  // The size changes by another hand: capacity_bytes() is as it was until refresh_capacity(), but requests beyond a
  // smaller end fail already.
  void change_behind(uint64_t bytes) {
    MutexLock lock(mutex_);
    data_.resize(bytes);
    stable_.resize(bytes);
  }

  // --- Disk

  uint64_t capacity_bytes() const override { return capacity_; }
  const DiskLimits& limits() const override { return limits_; }
  Result<std::unique_ptr<DiskPort>> attach(EventLoop& loop) override {
    STRATO_ASSERT(loop.in_loop_thread());
    return std::make_unique<Port>(*this, loop);
  }
  Result<> resize(uint64_t bytes) override {
    change_behind(bytes);
    return refresh_capacity();
  }
  Result<> refresh_capacity() override {
    MutexLock lock(mutex_);
    capacity_ = data_.size();
    return {};
  }
  Result<> activate() override {
    MutexLock lock(mutex_);
    if (activation_error_) return std::unexpected(*activation_error_);
    active_ = true;
    return {};
  }
  void inactivate() override { active_ = false; }

 private:
  class Port;
  struct Waiting {
    Port* port = nullptr;
    DiskRequest* request = nullptr;
    size_t covered_writes = 0;  // Flush: what had finished when it came
  };
  struct Failure {
    DiskOp op;
    int os_errno;
    uint32_t skip;
    uint32_t count;
  };
  struct Range {
    uint64_t offset;
    uint64_t bytes;
  };

  class Port final : public DiskPort {
   public:
    Port(MemoryDisk& disk, EventLoop& loop) : disk_(disk), loop_(loop) { ++disk_.ports_; }
    ~Port() override {
      STRATO_ASSERT(in_flight_ == 0);
      --disk_.ports_;
    }
    void submit(DiskRequest& request) override {
      STRATO_ASSERT(loop_.in_loop_thread() && !drained_);
      ++in_flight_;
      const Waiting one{this, &request, disk_.accept(request)};
      if (disk_.held_) {
        disk_.wait(one);
      } else {
        finish_later(one);
      }
    }
    void drain(std::move_only_function<void()> done) override {
      STRATO_ASSERT(loop_.in_loop_thread() && !drained_);
      if (in_flight_ == 0) return done();
      drained_ = std::move(done);
    }

    void finish_later(const Waiting& one) {
      loop_.post(alive_.token(), [this, one] { finish_now(one); });
    }
    void finish_now(const Waiting& one) {
      STRATO_ASSERT(loop_.in_loop_thread());
      const int os_errno = disk_.perform(*one.request, one.covered_writes);
      --in_flight_;
      // The client may submit the next one, or destroy us once it was told that nothing is in flight.
      std::move_only_function<void()> done;
      if (in_flight_ == 0) done = std::exchange(drained_, nullptr);
      one.request->client->finished(*one.request, os_errno);
      if (done) done();
    }

   private:
    MemoryDisk& disk_;
    EventLoop& loop_;
    size_t in_flight_ = 0;
    std::move_only_function<void()> drained_;
    Lifetime alive_;
  };

  void wait(const Waiting& one) {
    MutexLock lock(mutex_);
    waiting_.push_back(one);
  }

  size_t accept(const DiskRequest& request) {
    uint64_t in_buffers = 0;
    for (const iovec& piece : request.buffers) in_buffers += piece.iov_len;
    const bool has_data = request.op == DiskOp::Read || request.op == DiskOp::Write;
    STRATO_ASSERT(request.client != nullptr && in_buffers == (has_data ? request.bytes : 0));
    STRATO_ASSERT(request.op != DiskOp::Flush || request.bytes == 0);
    MutexLock lock(mutex_);
    records_.push_back(record(Record::What::Submitted, request, 0));
    return unstable_.size();
  }

  int perform(const DiskRequest& request, size_t covered_writes) {
    MutexLock lock(mutex_);
    int os_errno = failure_of(request);
    if (os_errno == 0) os_errno = apply(request, covered_writes);
    records_.push_back(record(Record::What::Finished, request, os_errno));
    return os_errno;
  }

  int failure_of(const DiskRequest& request) STRATO_REQUIRES(mutex_) {
    if (limits_.read_only && request.op != DiskOp::Read && request.op != DiskOp::Flush) return EROFS;
    if (request.offset > data_.size() || request.bytes > data_.size() - request.offset) return EIO;
    const auto found = std::ranges::find(failures_, request.op, &Failure::op);
    if (found == failures_.end()) return 0;
    if (found->skip > 0) {
      --found->skip;
      return 0;
    }
    const int os_errno = found->os_errno;
    if (--found->count == 0) failures_.erase(found);
    return os_errno;
  }

  int apply(const DiskRequest& request, size_t covered_writes) STRATO_REQUIRES(mutex_) {
    std::byte* at = data_.data() + request.offset;
    switch (request.op) {
      case DiskOp::Read:
        for (const iovec& piece : request.buffers) {
          std::memcpy(piece.iov_base, at, piece.iov_len);
          at += piece.iov_len;
        }
        return 0;
      case DiskOp::Write:
        for (const iovec& piece : request.buffers) {
          std::memcpy(at, piece.iov_base, piece.iov_len);
          at += piece.iov_len;
        }
        break;
      case DiskOp::Flush:
        for (size_t i = 0; i < covered_writes; ++i) make_stable(unstable_[i]);
        return 0;
      case DiskOp::Discard:
      case DiskOp::WriteZeroes:
        std::ranges::fill(std::span(at, request.bytes), std::byte{0});
        break;
    }
    unstable_.push_back({request.offset, request.bytes});
    if (request.durable) make_stable(unstable_.back());
    return 0;
  }

  void make_stable(const Range& range) STRATO_REQUIRES(mutex_) {
    const uint64_t begin = std::min<uint64_t>(range.offset, data_.size());
    const uint64_t bytes = std::min<uint64_t>(range.bytes, data_.size() - begin);
    std::memcpy(stable_.data() + begin, data_.data() + begin, bytes);
  }

  std::vector<std::byte> copy(const std::vector<std::byte>& from, uint64_t offset, uint64_t bytes) const {
    MutexLock lock(mutex_);
    STRATO_ASSERT(offset <= from.size() && bytes <= from.size() - offset);
    const std::span part = std::span(from).subspan(offset, bytes);
    return {part.begin(), part.end()};
  }

  static Record record(Record::What what, const DiskRequest& request, int os_errno) {
    return {what, request.op, request.offset, request.bytes, request.durable, request.may_unmap, os_errno};
  }

  const DiskLimits limits_;
  std::atomic<uint64_t> capacity_;
  std::atomic<bool> held_{false};
  std::atomic<bool> active_{true};
  std::atomic<size_t> ports_{0};
  mutable Mutex mutex_;
  // Under mutex_ too; copy() takes them by reference, which the annotation does not allow.
  std::vector<std::byte> data_;
  std::vector<std::byte> stable_;
  // Ranges written, in the order of finishing; kept for ever, for Waiting::covered_writes counts them.
  std::vector<Range> unstable_ STRATO_GUARDED_BY(mutex_);
  std::vector<Waiting> waiting_ STRATO_GUARDED_BY(mutex_);
  std::vector<Failure> failures_ STRATO_GUARDED_BY(mutex_);
  std::vector<Record> records_ STRATO_GUARDED_BY(mutex_);
  std::optional<Error> activation_error_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato
