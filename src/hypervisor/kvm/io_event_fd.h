// Doorbells by KVM: a guest's write that matches ends in an eventfd and never leaves the kernel.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/result.h"
#include "bus/doorbell.h"
#include "event/event_fd.h"
#include "hypervisor/kvm/vm.h"

namespace strato {

struct IoEventMatch {
  uint64_t address = 0;
  uint8_t width_bytes = 4;             // 1, 2, 4, 8; 0: any width, and then no value
  std::optional<uint64_t> value = {};  // none: any
  bool port = false;                   // port I/O instead of MMIO
};

// Registered for as long as it lives. Make it when a device is attached, not when its driver activates it: taking one
// away soon after it was added waits 5 to 12 ms.
class IoEventFd {
 public:
  static Result<IoEventFd> create(const Vm& vm, const IoEventMatch& match);
  IoEventFd(IoEventFd&& other) noexcept;
  IoEventFd& operator=(IoEventFd&&) = delete;
  ~IoEventFd();

  const EventFd& event() const { return event_; }

 private:
  IoEventFd(const Vm& vm, const IoEventMatch& match, EventFd event);
  Result<> apply(bool assign) const;

  const Vm* vm_;
  IoEventMatch match_;
  EventFd event_;
};

class KvmDoorbell final : public Doorbell {
 public:
  static Result<std::unique_ptr<KvmDoorbell>> create(const Vm& vm, const IoEventMatch& match);
  int fd() const override { return io_event_fd_.event().fd(); }
  void ring() override { io_event_fd_.event().signal(); }

 private:
  explicit KvmDoorbell(IoEventFd io_event_fd) : io_event_fd_(std::move(io_event_fd)) {}
  IoEventFd io_event_fd_;
};

}  // namespace strato
