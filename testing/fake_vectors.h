// Interrupts and doorbells without a hypervisor: N vectors with mask and pending, as a PCI function has them.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "bus/doorbell.h"
#include "bus/interrupt.h"
#include "event/event_fd.h"

namespace strato::testing {

// Any thread; mask() and unmask() one at a time.
class FakeVector final : public Interrupt {
 public:
  void raise() override {
    pending_ = true;
    if (!masked_) deliver();
  }
  int fd() const override { return event_fd_.fd(); }
  void mask() override { masked_ = true; }
  void unmask() override {
    masked_ = false;
    deliver();
  }
  bool pending() const override { return pending_; }

  // Interrupts that reached the guest since the last call.
  int take() { return delivered_.exchange(0); }

 private:
  static EventFd make_event_fd() {
    Result<EventFd> made = EventFd::create();
    STRATO_ASSERT(made.has_value());
    return *std::move(made);
  }
  void deliver() {
    if (pending_.exchange(false)) ++delivered_;
  }

  EventFd event_fd_ = make_event_fd();
  std::atomic<bool> masked_{false};
  std::atomic<bool> pending_{false};
  std::atomic<int> delivered_{0};
};

class FakeVectors {
 public:
  explicit FakeVectors(size_t count) {
    for (size_t i = 0; i < count; ++i) vectors_.push_back(std::make_unique<FakeVector>());
  }
  FakeVector& operator[](size_t index) { return *vectors_[index]; }
  size_t size() const { return vectors_.size(); }

 private:
  std::vector<std::unique_ptr<FakeVector>> vectors_;
};

class FakeDoorbell final : public Doorbell {
 public:
  FakeDoorbell() : event_fd_(make_event_fd()) {}
  int fd() const override { return event_fd_.fd(); }
  void ring() override {
    event_fd_.signal();
    ++rings_;
  }
  int take_rings() { return rings_.exchange(0); }

 private:
  static EventFd make_event_fd() {
    Result<EventFd> made = EventFd::create();
    STRATO_ASSERT(made.has_value());
    return *std::move(made);
  }
  EventFd event_fd_;
  std::atomic<int> rings_{0};
};

}  // namespace strato::testing
