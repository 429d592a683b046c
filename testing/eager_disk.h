// A disk in memory that costs nearly nothing: it finishes what was submitted in the next round of the loop, keeps no
// record (memory_disk.h does) and allocates nothing. For tests and benchmarks that count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "block/disk.h"

namespace strato {

class EagerDisk final : public Disk {
 public:
  explicit EagerDisk(uint64_t capacity_bytes) : data_(capacity_bytes) {}
  uint64_t capacity_bytes() const override { return data_.size(); }
  const DiskLimits& limits() const override { return limits_; }
  Result<std::unique_ptr<DiskPort>> attach(EventLoop& loop) override {
    return std::make_unique<Port>(loop, std::span(data_));
  }
  Result<> resize(uint64_t /*capacity_bytes*/) override { return {}; }
  Result<> refresh_capacity() override { return {}; }
  Result<> activate() override { return {}; }
  void inactivate() override {}

 private:
  class Port final : public DiskPort, private LoopHook {
   public:
    Port(EventLoop& loop, std::span<std::byte> data) : data_(data), hook_(loop.add_hook(*this)) {}
    void submit(DiskRequest& request) override {
      request.port_state.next = first_;
      first_ = &request;
    }
    void drain(std::move_only_function<void()> done) override { done(); }

   private:
    bool poll() override {
      const bool found = first_ != nullptr;
      while (DiskRequest* request = first_) {
        first_ = request->port_state.next;
        move_data(*request);
        request->client->finished(*request, 0);
      }
      return found;
    }
    void move_data(const DiskRequest& request) {
      if (request.op != DiskOp::Read && request.op != DiskOp::Write) return;
      std::byte* at = data_.data() + request.offset;
      for (const iovec& piece : request.buffers) {
        if (request.op == DiskOp::Read) {
          std::memcpy(piece.iov_base, at, piece.iov_len);
        } else {
          std::memcpy(at, piece.iov_base, piece.iov_len);
        }
        at += piece.iov_len;
      }
    }
    const std::span<std::byte> data_;
    DiskRequest* first_ = nullptr;
    HookRegistration hook_;
  };
  const DiskLimits limits_{.can_discard = true};
  std::vector<std::byte> data_;
};

}  // namespace strato
