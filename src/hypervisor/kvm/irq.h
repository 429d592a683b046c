// Interrupts of devices by KVM: bus/'s IrqLine and Interrupt.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "bus/interrupt.h"
#include "event/event_fd.h"
#include "hypervisor/kvm/irq_router.h"
#include "hypervisor/kvm/vm.h"

namespace strato {

// An eventfd whose signal raises a GSI, for as long as this object is attached. Attaching delivers a count that the fd
// already has.
class IrqFd {
 public:
  // Edge: each signal is one pulse on `gsi`.
  static Result<IrqFd> create(const Vm& vm, uint32_t gsi);
  static Result<IrqFd> create_detached(const Vm& vm, uint32_t gsi);
  // Level: a signal asserts `gsi`; the guest's end of interrupt takes it down and signals resample_fd().
  static Result<IrqFd> create_resampled(const Vm& vm, uint32_t gsi);

  IrqFd(IrqFd&& other) noexcept;
  IrqFd& operator=(IrqFd&&) = delete;
  ~IrqFd();

  void signal() const { event_.signal(); }
  // Takes what was signalled while it was detached.
  uint64_t consume() const { return event_.consume(); }
  int fd() const { return event_.fd(); }
  int resample_fd() const { return resample_ ? resample_->fd() : -1; }
  // Detached, signals stay in the fd. Detaching waits for a grace period of the kernel (tens of µs on hardware).
  Result<> attach();
  Result<> detach();
  bool attached() const { return attached_; }

 private:
  IrqFd(const Vm& vm, uint32_t gsi, EventFd event, std::optional<EventFd> resample);
  Result<> assign(uint32_t flags) const;

  const Vm* vm_;
  uint32_t gsi_;
  bool attached_ = false;
  EventFd event_;
  std::optional<EventFd> resample_;
};

// A wired interrupt. By KVM_IRQ_LINE and not by an irqfd: it has taken effect on return, so that nothing is under way
// in the kernel when the interrupt controller's state is saved, and it costs no fd.
class KvmIrqLine final : public IrqLine {
 public:
  KvmIrqLine(const Vm& vm, uint32_t gsi) : vm_(vm), gsi_(gsi) {}
  void pulse() override;
  void set(bool level) override;

 private:
  const Vm& vm_;
  const uint32_t gsi_;
};

// The edge-triggered line of virtio-mmio.
// On a wired GSI the kernel delivers a raise() from a work queue, some time later: before the interrupt controller is
// saved, mask() and unmask() wait until it has.
class KvmInterrupt final : public Interrupt {
 public:
  static Result<std::unique_ptr<KvmInterrupt>> create(const Vm& vm, uint32_t gsi);
  void raise() override { irqfd_.signal(); }
  int fd() const override { return irqfd_.fd(); }
  void mask() override;
  void unmask() override;
  bool pending() const override;

 private:
  explicit KvmInterrupt(IrqFd irqfd) : irqfd_(std::move(irqfd)) {}
  IrqFd irqfd_;
};

// A message interrupt: an irqfd on an MSI route of its own. Masked at first. Threads: as Interrupt says; set_message()
// and drop_pending() with mask(). `router` outlives it.
class KvmMessageInterrupt final : public MessageInterrupt {
 public:
  static Result<std::unique_ptr<KvmMessageInterrupt>> create(const Vm& vm, IrqRouter& router);
  ~KvmMessageInterrupt() override;
  void raise() override { irqfd_->signal(); }
  int fd() const override { return irqfd_->fd(); }
  void mask() override;
  void unmask() override;
  bool pending() const override;
  Result<> set_message(const MsiMessage& message) override { return router_.set_message(gsi_, message); }
  void drop_pending() override { irqfd_->consume(); }

 private:
  KvmMessageInterrupt(IrqRouter& router, uint32_t gsi) : router_(router), gsi_(gsi) {}
  IrqRouter& router_;
  const uint32_t gsi_;
  std::optional<IrqFd> irqfd_;
};

}  // namespace strato
