#include "hypervisor/kvm/io_event_fd.h"

#include <fmt/format.h>
#include "hypervisor/kvm/linux_kvm.h"

#include <utility>

#include "base/log.h"
#include "hypervisor/kvm/kvm_ioctl.h"

namespace strato {

IoEventFd::IoEventFd(const Vm& vm, const IoEventMatch& match, EventFd event)
    : vm_(&vm), match_(match), event_(std::move(event)) {}

IoEventFd::IoEventFd(IoEventFd&& other) noexcept
    : vm_(std::exchange(other.vm_, nullptr)), match_(other.match_), event_(std::move(other.event_)) {}

IoEventFd::~IoEventFd() {
  if (vm_ == nullptr) return;
  const Result<> removed = apply(false);
  if (!removed) log(LogLevel::Warn, "{}", removed.error().text());
}

Result<IoEventFd> IoEventFd::create(const Vm& vm, const IoEventMatch& match) {
  EventFd event = STRATO_TRY(EventFd::create());
  IoEventFd io_event_fd(vm, match, std::move(event));
  Result<> added = io_event_fd.apply(true);
  if (!added) {
    io_event_fd.vm_ = nullptr;  // nothing to take away
    return std::unexpected(std::move(added).error());
  }
  return io_event_fd;
}

Result<> IoEventFd::apply(bool assign) const {
  kvm_ioeventfd request{};
  request.addr = match_.address;
  request.len = match_.width_bytes;
  request.fd = event_.fd();
  if (match_.value) {
    request.datamatch = *match_.value;
    request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
  }
  if (match_.port) request.flags |= KVM_IOEVENTFD_FLAG_PIO;
  if (!assign) request.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
  if (kvm_ioctl(vm_->fd(), KVM_IOEVENTFD, &request) < 0) {
    return std::unexpected(Error::from_errno(fmt::format("KVM_IOEVENTFD at {:#x}", match_.address)));
  }
  return {};
}

Result<std::unique_ptr<KvmDoorbell>> KvmDoorbell::create(const Vm& vm, const IoEventMatch& match) {
  IoEventFd io_event_fd = STRATO_TRY(IoEventFd::create(vm, match));
  return std::unique_ptr<KvmDoorbell>(new KvmDoorbell(std::move(io_event_fd)));
}

}  // namespace strato
