#include "net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace strato {
namespace {

constexpr const char* kTunDevice = "/dev/net/tun";
// Of Linux 6.2 and later, both or none; older headers lack them.
constexpr unsigned kTunUso4 = 0x20;
constexpr unsigned kTunUso6 = 0x40;

unsigned tun_offloads(uint32_t offloads) {
  unsigned flags = 0;
  if ((offloads & kNetChecksum) != 0) flags |= TUN_F_CSUM;
  if ((offloads & kNetTso4) != 0) flags |= TUN_F_TSO4;
  if ((offloads & kNetTso6) != 0) flags |= TUN_F_TSO6;
  if ((offloads & kNetTsoEcn) != 0) flags |= TUN_F_TSO_ECN;
  if ((offloads & kNetUso) != 0) flags |= kTunUso4 | kTunUso6;
  return flags;
}

bool set_tun_offloads(int fd, uint32_t offloads) {
  // The argument is the value itself.
  return ::ioctl(fd, TUNSETOFFLOAD, static_cast<unsigned long>(tun_offloads(offloads))) == 0;
}

Result<UniqueFd> open_queue(const std::string& ifname, short more_flags) {
  UniqueFd fd(::open(kTunDevice, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return std::unexpected(Error::from_errno(kTunDevice));
  ifreq request{};
  ifname.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more_flags);
  if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) {
    return std::unexpected(Error::from_errno(fmt::format("tap interface '{}'", ifname)));
  }
  return fd;
}

}  // namespace

// --- opening

Result<std::unique_ptr<Tap>> Tap::open(const std::string& ifname, size_t pairs) {
  STRATO_ASSERT(pairs >= 1 && pairs <= kMaxPairs);
  if (ifname.empty() || ifname.size() >= IFNAMSIZ) {
    return std::unexpected(Error::invalid(fmt::format("tap interface '{}': a name has 1 to 15 bytes", ifname)));
  }
  std::vector<UniqueFd> fds;
  const bool multi_queue = pairs > 1;
  Result<UniqueFd> first = open_queue(ifname, multi_queue ? IFF_MULTI_QUEUE : 0);
  // One that was made for many queues can be opened only so.
  if (!first && !multi_queue && first.error().os_errno() == EINVAL) first = open_queue(ifname, IFF_MULTI_QUEUE);
  if (!first && multi_queue && first.error().os_errno() == EINVAL) {
    return std::unexpected(std::move(first).error().context("not made with multi_queue"));
  }
  if (!first) return std::unexpected(std::move(first).error());
  fds.push_back(*std::move(first));
  while (fds.size() < pairs) {
    UniqueFd next = STRATO_TRY(open_queue(ifname, IFF_MULTI_QUEUE));
    fds.push_back(std::move(next));
  }
  return create(ifname, std::move(fds));
}

Result<std::unique_ptr<Tap>> Tap::adopt(std::span<const int> fds) {
  STRATO_ASSERT(!fds.empty() && fds.size() <= kMaxPairs);
  std::vector<UniqueFd> owned;
  for (const int fd : fds) {
    if (::fcntl(fd, F_GETFD) < 0) return std::unexpected(Error::from_errno(fmt::format("fd {}", fd)));
    ifreq request{};
    // Before it is ours: a number that somebody mistyped may be anything.
    if (::ioctl(fd, TUNGETIFF, &request) < 0) {
      return std::unexpected(Error::from_errno(fmt::format("fd {}: not a tap interface", fd)));
    }
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    owned.emplace_back(fd);
  }
  return create({}, std::move(owned));
}

Result<std::unique_ptr<Tap>> Tap::create(std::string ifname, std::vector<UniqueFd> fds) {
  std::unique_ptr<Tap> tap(new Tap);
  tap->ifname_ = std::move(ifname);
  for (size_t i = 0; i < fds.size(); ++i) {
    Result<> prepared = tap->prepare(fds[i].get(), fds.size() > 1);
    if (!prepared) return std::unexpected(std::move(prepared).error().context(fmt::format("tap queue {}", i)));
    tap->queues_.push_back(std::make_unique<Queue>(std::move(fds[i])));
  }
  tap->probe_offloads();
  tap->set_offloads(0);
  // The driver asks for more than one.
  tap->use_pairs(1);
  return tap;
}

Result<> Tap::prepare(int fd, bool multi_queue) {
  ifreq request{};
  if (::ioctl(fd, TUNGETIFF, &request) < 0) return std::unexpected(Error::from_errno("TUNGETIFF"));
  const std::string name(request.ifr_name, ::strnlen(request.ifr_name, IFNAMSIZ));
  const auto flags = static_cast<unsigned short>(request.ifr_flags);
  if ((flags & IFF_TAP) == 0) return std::unexpected(Error::invalid(fmt::format("'{}' is not a tap interface", name)));
  if ((flags & IFF_NO_PI) == 0) {
    return std::unexpected(Error::invalid(fmt::format("'{}' was opened without IFF_NO_PI", name)));
  }
  if (multi_queue && (flags & IFF_MULTI_QUEUE) == 0) {
    return std::unexpected(Error::invalid(fmt::format("'{}' was opened without IFF_MULTI_QUEUE", name)));
  }
  const bool has_header = (flags & IFF_VNET_HDR) != 0;
  if (!queues_.empty() && (ifname_ != name || has_header_ != has_header)) {
    return std::unexpected(Error::invalid(fmt::format("'{}' and '{}' are not queues of one interface", ifname_, name)));
  }
  ifname_ = name;
  has_header_ = has_header;
  multi_queue_ = (flags & IFF_MULTI_QUEUE) != 0;
  const int status = ::fcntl(fd, F_GETFL);
  if (status < 0 || ::fcntl(fd, F_SETFL, status | O_NONBLOCK) < 0) {
    return std::unexpected(Error::from_errno("O_NONBLOCK"));
  }
  int header_bytes = sizeof(NetHeader);
  if (has_header && ::ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0) {
    return std::unexpected(Error::from_errno("TUNSETVNETHDRSZ"));
  }
  return {};
}

void Tap::probe_offloads() {
  if (!has_header_) return;
  const int fd = queues_[0]->fd.get();
  for (const uint32_t more : {kNetChecksum, kNetTso4, kNetTso6, kNetTsoEcn, kNetUso}) {
    if (set_tun_offloads(fd, offloads_ | more)) offloads_ |= more;
  }
}

Tap::~Tap() {
  on_link_ = nullptr;
  set_offloads(0);  // the next user of an interface that stays begins as we did
}

// --- the driver's choices

// They are the interface's, not the queue's.
void Tap::set_offloads(uint32_t offloads) {
  if (offloads_ == 0 || gone_) return;
  if (set_tun_offloads(queues_[0]->fd.get(), offloads & offloads_) || errno == EBADFD) return;
  log_guest(LogLevel::Warn, "tap '{}': the offloads cannot be changed: {}", ifname_, std::strerror(errno));
}

void Tap::use_pairs(size_t count) {
  STRATO_ASSERT(count >= 1 && count <= queues_.size());
  if (!multi_queue_) return;
  for (size_t i = 0; i < queues_.size(); ++i) {
    Queue& queue = *queues_[i];
    const bool attach = i < count;
    if (queue.attached == attach) continue;
    ifreq request{};
    request.ifr_flags = static_cast<short>(attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE);
    if (::ioctl(queue.fd.get(), TUNSETQUEUE, &request) == 0) {
      queue.attached = attach;
    } else if (!gone_) {
      log_guest(LogLevel::Warn, "tap '{}': queue {} cannot be {}: {}", ifname_, i, attach ? "used" : "left unused",
                std::strerror(errno));
    }
  }
}

void Tap::lost() {
  if (gone_.exchange(true)) return;
  log_guest(LogLevel::Warn, "tap '{}': the interface is gone", ifname_);
  if (on_link_) on_link_();
}

// --- frames

class TapReceiver final : public NetReceiver {
 public:
  TapReceiver(Tap& tap, size_t pair, NetReady on_ready)
      : tap_(tap), queue_(*tap.queues_[pair]), on_ready_(std::move(on_ready)) {}

  Result<> watch(EventLoop& loop) {
    watch_ = STRATO_TRY(loop.watch(queue_.fd.get(), 0, [this](uint32_t events) { ready(events); }));
    return {};
  }

  size_t receive(std::span<const iovec> room) override {
    if (tap_.gone_) return 0;
    if (!queue_.attached) return 0;
    STRATO_ASSERT(room.size() <= IOV_MAX && room[0].iov_len == sizeof(NetHeader));
    const std::span<const iovec> wanted = tap_.has_header_ ? room : room.subspan(1);
    ssize_t got = 0;
    do {
      got = ::readv(queue_.fd.get(), wanted.data(), static_cast<int>(wanted.size()));
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
      // Whatever it is, asking again at once would change nothing.
      if (got == 0 || errno != EAGAIN) give_up();
      return 0;
    }
    if (tap_.has_header_) return static_cast<size_t>(got);
    std::memset(room[0].iov_base, 0, sizeof(NetHeader));
    return static_cast<size_t>(got) + sizeof(NetHeader);
  }

  // Nothing that a tap has makes EPOLLPRI ready: what is left are errors, which come unasked.
  void listen(bool on) override {
    if (watch_.active()) watch_.set_events(on ? EPOLLIN : EPOLLPRI);
  }

 private:
  void ready(uint32_t events) {
    if ((events & EPOLLERR) == 0) return on_ready_();
    // So says a queue that is not attached as well, and for ever.
    if (!queue_.attached) return watch_.set_events(0);
    give_up();
  }

  void give_up() {
    watch_.reset();
    tap_.lost();
  }

  Tap& tap_;
  const Tap::Queue& queue_;
  NetReady on_ready_;
  Watch watch_;
};

class TapSender final : public NetSender {
 public:
  TapSender(Tap& tap, size_t pair, EventLoop& loop, NetReady on_ready)
      : tap_(tap), pair_(pair), loop_(loop), on_ready_(std::move(on_ready)) {}

  Sent send(std::span<const iovec> frame) override {
    if (tap_.gone_) return Sent::No;
    STRATO_ASSERT(frame.size() <= IOV_MAX && frame[0].iov_len == sizeof(NetHeader));
    // A pair that gets no frames may still send some.
    const int fd = tap_.queues_[tap_.queues_[pair_]->attached ? pair_ : 0]->fd.get();
    const std::span<const iovec> wanted = tap_.has_header_ ? frame : frame.subspan(1);
    ssize_t sent = 0;
    do {
      sent = ::writev(fd, wanted.data(), static_cast<int>(wanted.size()));
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) return Sent::Yes;
    if (errno == EAGAIN) return wait_for_room(fd) ? Sent::Later : Sent::No;
    if (errno == EBADFD) tap_.lost();
    return Sent::No;
  }

 private:
  // The receiver may watch the same file on the same loop, which an epoll set takes once for each descriptor.
  bool wait_for_room(int fd) {
    watch_.reset();
    room_.reset();
    room_ = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!room_.valid()) return false;
    Result<Watch> watch = loop_.watch(room_.get(), EPOLLOUT, [this](uint32_t) {
      watch_.reset();
      on_ready_();
    });
    if (!watch) return false;
    watch_ = *std::move(watch);
    return true;
  }

  Tap& tap_;
  const size_t pair_;
  EventLoop& loop_;
  NetReady on_ready_;
  UniqueFd room_;
  Watch watch_;
};

Result<std::unique_ptr<NetReceiver>> Tap::attach_receiver(size_t pair, EventLoop& loop, NetReady on_ready) {
  auto receiver = std::make_unique<TapReceiver>(*this, pair, std::move(on_ready));
  STRATO_TRY(receiver->watch(loop));
  return receiver;
}

Result<std::unique_ptr<NetSender>> Tap::attach_sender(size_t pair, EventLoop& loop, NetReady on_ready) {
  return std::make_unique<TapSender>(*this, pair, loop, std::move(on_ready));
}

}  // namespace strato
