#include "hypervisor/kvm/irq.h"

#include <fmt/format.h>
#include <poll.h>
#include "hypervisor/kvm/linux_kvm.h"

#include <utility>

#include "base/log.h"
#include "hypervisor/kvm/kvm_ioctl.h"

namespace strato {
namespace {

void mask_irqfd(IrqFd& irqfd) {
  const Result<> done = irqfd.detach();
  if (!done) log_guest(LogLevel::Error, "masking: {}", done.error().text());
}

// Attaching delivers what was raised meanwhile.
void unmask_irqfd(IrqFd& irqfd) {
  const Result<> done = irqfd.attach();
  if (!done) log_guest(LogLevel::Error, "unmasking: {}", done.error().text());
}

// While attached, KVM takes the count at once: only a masked vector has one.
bool is_pending(const IrqFd& irqfd) {
  if (irqfd.attached()) return false;
  pollfd request{.fd = irqfd.fd(), .events = POLLIN, .revents = 0};
  return ::poll(&request, 1, 0) == 1;
}

}  // namespace

IrqFd::IrqFd(const Vm& vm, uint32_t gsi, EventFd event, std::optional<EventFd> resample)
    : vm_(&vm), gsi_(gsi), event_(std::move(event)), resample_(std::move(resample)) {}

IrqFd::IrqFd(IrqFd&& other) noexcept
    : vm_(other.vm_),
      gsi_(other.gsi_),
      attached_(std::exchange(other.attached_, false)),
      event_(std::move(other.event_)),
      resample_(std::move(other.resample_)) {}

IrqFd::~IrqFd() {
  if (!attached_) return;
  const Result<> detached = detach();
  if (!detached) log(LogLevel::Warn, "{}", detached.error().text());
}

Result<IrqFd> IrqFd::create_detached(const Vm& vm, uint32_t gsi) {
  EventFd event = STRATO_TRY(EventFd::create());
  return IrqFd(vm, gsi, std::move(event), std::nullopt);
}

Result<IrqFd> IrqFd::create(const Vm& vm, uint32_t gsi) {
  IrqFd irqfd = STRATO_TRY(create_detached(vm, gsi));
  STRATO_TRY(irqfd.attach());
  return irqfd;
}

Result<IrqFd> IrqFd::create_resampled(const Vm& vm, uint32_t gsi) {
  EventFd event = STRATO_TRY(EventFd::create());
  EventFd resample = STRATO_TRY(EventFd::create());
  IrqFd irqfd(vm, gsi, std::move(event), std::move(resample));
  STRATO_TRY(irqfd.attach());
  return irqfd;
}

Result<> IrqFd::assign(uint32_t flags) const {
  kvm_irqfd request{};
  request.fd = static_cast<uint32_t>(event_.fd());
  request.gsi = gsi_;
  request.flags = flags;
  if ((flags & KVM_IRQFD_FLAG_RESAMPLE) != 0) request.resamplefd = static_cast<uint32_t>(resample_->fd());
  if (kvm_ioctl(vm_->fd(), KVM_IRQFD, &request) < 0) {
    return std::unexpected(Error::from_errno(fmt::format("KVM_IRQFD for GSI {}", gsi_)));
  }
  return {};
}

Result<> IrqFd::attach() {
  if (attached_) return {};
  STRATO_TRY(assign(resample_ ? KVM_IRQFD_FLAG_RESAMPLE : 0));
  attached_ = true;
  return {};
}

Result<> IrqFd::detach() {
  if (!attached_) return {};
  STRATO_TRY(assign(KVM_IRQFD_FLAG_DEASSIGN));
  attached_ = false;
  return {};
}

void KvmIrqLine::set(bool level) {
  const Result<> done = vm_.set_irq_line(gsi_, level);
  if (!done) log_guest(LogLevel::Error, "{}", done.error().text());
}

void KvmIrqLine::pulse() {
  set(true);
  set(false);
}

Result<std::unique_ptr<KvmInterrupt>> KvmInterrupt::create(const Vm& vm, uint32_t gsi) {
  IrqFd irqfd = STRATO_TRY(IrqFd::create(vm, gsi));
  return std::unique_ptr<KvmInterrupt>(new KvmInterrupt(std::move(irqfd)));
}

void KvmInterrupt::mask() {
  mask_irqfd(irqfd_);
}
void KvmInterrupt::unmask() {
  unmask_irqfd(irqfd_);
}
bool KvmInterrupt::pending() const {
  return is_pending(irqfd_);
}

Result<std::unique_ptr<KvmMessageInterrupt>> KvmMessageInterrupt::create(const Vm& vm, IrqRouter& router) {
  const uint32_t gsi = STRATO_TRY(router.allocate_message_gsi());
  std::unique_ptr<KvmMessageInterrupt> interrupt(new KvmMessageInterrupt(router, gsi));
  IrqFd irqfd = STRATO_TRY(IrqFd::create_detached(vm, gsi));
  interrupt->irqfd_.emplace(std::move(irqfd));
  return interrupt;
}

KvmMessageInterrupt::~KvmMessageInterrupt() {
  irqfd_.reset();
  router_.release_message_gsi(gsi_);
}

void KvmMessageInterrupt::mask() {
  mask_irqfd(*irqfd_);
}
void KvmMessageInterrupt::unmask() {
  unmask_irqfd(*irqfd_);
}
bool KvmMessageInterrupt::pending() const {
  return is_pending(*irqfd_);
}

}  // namespace strato
