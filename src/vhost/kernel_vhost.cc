#include "vhost/kernel_vhost.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace strato {
namespace {

constexpr uint64_t kLogPageBytes = 4096;  // whatever the host's pages are
constexpr uint64_t kLogAll = uint64_t{1} << VHOST_F_LOG_ALL;

bool is_ram(const std::shared_ptr<const MappedRegion>& region) {
  return region->kind() == RegionKind::Ram;
}

// Where the kernel finds a part of guest memory; 0: nowhere.
uint64_t host_address(const GuestMemory& memory, uint64_t guest_address) {
  const GuestResult<GuestSlice> first = memory.slice(GuestAddr(guest_address), 1);
  return first ? reinterpret_cast<uint64_t>(first->io_source().iov_base) : 0;
}

}  // namespace

Result<std::unique_ptr<KernelVhost>> KernelVhost::create(Args args) {
  const std::string name = args.name;
  const size_t rings = args.rings;
  std::unique_ptr<KernelVhost> vhost(new KernelVhost(std::move(args)));
  const auto prepare = [&vhost, rings]() -> Result<> {
    for (size_t index = 0; index < rings; ++index) {
      EventFd error = STRATO_TRY(EventFd::create());
      vhost->rings_.push_back(std::make_unique<Ring>(std::move(error)));
    }
    STRATO_TRY(vhost->call(VHOST_GET_FEATURES, &vhost->offered_, "GET_FEATURES"));
    if ((vhost->offered_ & virtio::kFeatureVersion1) == 0) {
      return std::unexpected(Error::unsupported("the host's vhost is too old: it does not know virtio 1"));
    }
    STRATO_TRY(vhost->call(VHOST_SET_OWNER, nullptr, "SET_OWNER"));
    STRATO_TRY(vhost->memory_map_.add_listener(*vhost));
    vhost->listed_ = true;
    return {};
  };
  Result<> prepared = prepare();
  if (!prepared) return std::unexpected(std::move(prepared).error().context(name));
  return vhost;
}

KernelVhost::KernelVhost(Args args)
    : name_(std::move(args.name)), memory_map_(args.memory), port_(std::move(args.port)) {}

KernelVhost::~KernelVhost() {
  for (const std::unique_ptr<Ring>& ring : rings_) STRATO_ASSERT(!ring->started);
  if (listed_) memory_map_.remove_listener(*this);
}

Result<> KernelVhost::call(unsigned long request, void* argument, std::string_view name) {
  MutexLock lock(mutex_);
  return call_locked(request, argument, name);
}

Result<> KernelVhost::call_locked(unsigned long request, void* argument, std::string_view name) {
  return call_vhost(*port_, request, argument, name);
}

Result<> KernelVhost::set_features(uint64_t features) {
  MutexLock lock(mutex_);
  features_ = features;
  features_known_ = true;
  return apply_features();
}

Result<> KernelVhost::apply_features() {
  uint64_t features = features_ | (logging_ ? kLogAll : 0);
  return call_locked(VHOST_SET_FEATURES, &features, "SET_FEATURES");
}

// --- memory

Result<> KernelVhost::commit(const MemoryUpdate& update) {
  MutexLock lock(mutex_);
  const GuestMemory::Regions& regions = update.after->regions();
  const auto count = static_cast<size_t>(std::ranges::count_if(regions, is_ram));
  // As the kernel's variable-length struct vhost_memory.
  constexpr size_t kHeadWords = sizeof(vhost_memory) / sizeof(uint64_t);
  constexpr size_t kRegionWords = sizeof(vhost_memory_region) / sizeof(uint64_t);
  std::vector<uint64_t> buffer(kHeadWords + count * kRegionWords);
  auto* table = reinterpret_cast<vhost_memory*>(buffer.data());
  table->nregions = static_cast<uint32_t>(count);
  size_t next = 0;
  for (const std::shared_ptr<const MappedRegion>& region : regions) {
    // The table cannot say that one is only to be read.
    if (!is_ram(region)) continue;
    table->regions[next++] = {.guest_phys_addr = region->start().raw(),
                              .memory_size = region->size(),
                              .userspace_addr = region->userspace_addr(),
                              .flags_padding = 0};
  }
  // What the log does not reach must not be there.
  if (logging_) STRATO_TRY(use_log_for(*update.after));
  Result<> set = call_locked(VHOST_SET_MEM_TABLE, table, "SET_MEM_TABLE");
  if (!set) {
    return std::unexpected(std::move(set).error().context(fmt::format("{}: {} memory regions", name_, count)));
  }
  memory_ = update.after;
  return {};
}

// --- rings

Result<> KernelVhost::start_ring(size_t index, virtio::QueueWiring wiring) {
  STRATO_ASSERT(index < rings_.size() && !rings_[index]->started);
  const auto refuse = [this, index](std::string_view why) {
    return std::unexpected(Error::unsupported(fmt::format("{}: ring {}: {}", name_, index, why)));
  };
  const virtio::QueueConfig& config = wiring.queue.config();
  if (config.packed) return refuse("the host's vhost has no packed rings");
  if (wiring.queue.unfinished() != 0) return refuse("saved with unfinished requests, which vhost does not take over");
  if (wiring.doorbell.fd() < 0) return refuse("its doorbell has no descriptor");
  Ring& ring = *rings_[index];
  const GuestMemory& memory = *wiring.queue.memory();
  ring.addresses = {.index = static_cast<unsigned>(index),
                    .flags = 0,
                    .desc_user_addr = host_address(memory, config.desc),
                    .used_user_addr = host_address(memory, config.device),
                    .avail_user_addr = host_address(memory, config.driver),
                    .log_guest_addr = config.device};
  // From here on its status always says that the driver should look at its rings.
  int call_fd = wiring.interrupt.fd();
  if (call_fd < 0) {
    EventFd relay = STRATO_TRY(EventFd::create());
    call_fd = relay.fd();
    ring.listener.relay = std::move(relay);
  }
  ring.wiring.emplace(std::move(wiring));
  Result<> connected;
  {
    MutexLock lock(mutex_);
    connected = connect_ring(index, call_fd);
    ring.started = connected.has_value();
  }
  if (!connected) {
    ring.wiring.reset();
    ring.listener = {};
    return std::unexpected(std::move(connected).error().context(fmt::format("{}: ring {}", name_, index)));
  }
  ring.wiring->loop.post(alive_.token(), [this, index] { listen(index); });
  return {};
}

Result<> KernelVhost::connect_ring(size_t index, int call_fd) {
  const Ring& ring = *rings_[index];
  const auto number = static_cast<unsigned>(index);
  vhost_vring_state size{.index = number, .num = ring.wiring->queue.config().size};
  STRATO_TRY(call_locked(VHOST_SET_VRING_NUM, &size, "SET_VRING_NUM"));
  vhost_vring_state base{.index = number, .num = ring.wiring->queue.progress().next_avail};
  STRATO_TRY(call_locked(VHOST_SET_VRING_BASE, &base, "SET_VRING_BASE"));
  STRATO_TRY(set_addresses(index));
  vhost_vring_file error{.index = number, .fd = ring.error.fd()};
  STRATO_TRY(call_locked(VHOST_SET_VRING_ERR, &error, "SET_VRING_ERR"));
  vhost_vring_file interrupt{.index = number, .fd = call_fd};
  STRATO_TRY(call_locked(VHOST_SET_VRING_CALL, &interrupt, "SET_VRING_CALL"));
  vhost_vring_file doorbell{.index = number, .fd = ring.wiring->doorbell.fd()};
  return call_locked(VHOST_SET_VRING_KICK, &doorbell, "SET_VRING_KICK");
}

Result<> KernelVhost::set_addresses(size_t index) {
  vhost_vring_addr addresses = rings_[index]->addresses;
  // The used ring is the kernel's to write as well.
  if (logging_) addresses.flags = 1 << VHOST_VRING_F_LOG;
  return call_locked(VHOST_SET_VRING_ADDR, &addresses, "SET_VRING_ADDR");
}

void KernelVhost::listen(size_t index) {
  Ring& ring = *rings_[index];
  EventLoop& loop = ring.wiring->loop;
  Result<Watch> errors = loop.watch(ring.error.fd(), EPOLLIN, [this, &ring, index](uint32_t) {
    ring.error.consume();
    log_guest(LogLevel::Warn, "{}: the host's vhost cannot use ring {} any more", name_, index);
    ring.wiring->queue.mark_broken();
  });
  if (errors) {
    ring.listener.error_watch = *std::move(errors);
  } else {
    log_guest(LogLevel::Error, "{}: ring {} breaks unnoticed: {}", name_, index, errors.error().text());
  }
  if (!ring.listener.relay) return;
  Result<Watch> interrupts = loop.watch(ring.listener.relay->fd(), EPOLLIN, [&ring](uint32_t) {
    ring.listener.relay->consume();
    ring.wiring->interrupt.raise();
  });
  if (interrupts) {
    ring.listener.relay_watch = *std::move(interrupts);
  } else {
    log_guest(LogLevel::Error, "{}: ring {} has no interrupt: {}", name_, index, interrupts.error().text());
  }
}

virtio::Queue KernelVhost::stop_ring(size_t index) {
  Ring& ring = *rings_[index];
  STRATO_ASSERT(ring.started && ring.wiring->loop.in_loop_thread());
  vhost_vring_state base{.index = static_cast<unsigned>(index), .num = 0};
  Result<> known;
  {
    MutexLock lock(mutex_);
    known = call_locked(VHOST_GET_VRING_BASE, &base, "GET_VRING_BASE");
    ring.started = false;
  }
  // What came between the last look of the loop and the end.
  if (ring.listener.relay && ring.listener.relay->consume() != 0) ring.wiring->interrupt.raise();
  ring.listener.relay_watch.reset();
  ring.listener.error_watch.reset();
  ring.listener.relay.reset();
  virtio::Queue queue = std::move(ring.wiring->queue);
  ring.wiring.reset();
  if (ring.error.consume() != 0) queue.mark_broken();
  if (!known) {
    log_guest(LogLevel::Error, "{}: ring {}: {}", name_, index, known.error().text());
    queue.mark_broken();
  } else if (!queue.broken()) {
    // All that it has taken it has answered: the rings of networks and sockets are served in their order.
    const auto next = static_cast<uint16_t>(base.num);
    queue.go_on_from({.next_avail = next, .next_used = next});
  }
  return queue;
}

// --- the dirty log

// One that reaches to the end of this memory, in the kernel's hands.
Result<> KernelVhost::use_log_for(const GuestMemory& memory) {
  uint64_t pages = 0;
  for (const std::shared_ptr<const MappedRegion>& region : memory.regions()) {
    if (is_ram(region)) pages = std::max(pages, (region->end_raw() - 1) / kLogPageBytes + 1);
  }
  const uint64_t count = pages / 64 + 1;
  if (count <= log_.count) return {};
  Log bigger{.words = {}, .count = count};
  // Untouched, it costs nothing; all 0 is what an atomic of 0 is made of.
  bigger.words.reset(static_cast<std::atomic<uint64_t>*>(std::calloc(count, sizeof(uint64_t))));
  if (bigger.words == nullptr) {
    return std::unexpected(
        Error::from_errno(fmt::format("{}: {} bytes for a dirty log", name_, count * sizeof(uint64_t)), ENOMEM));
  }
  auto address = reinterpret_cast<uint64_t>(bigger.words.get());
  STRATO_TRY(call_locked(VHOST_SET_LOG_BASE, &address, "SET_LOG_BASE"));
  const Log before = std::exchange(log_, std::move(bigger));
  collect(before);
  return {};
}

Result<> KernelVhost::start_dirty_log() {
  MutexLock lock(mutex_);
  STRATO_ASSERT(!logging_);
  if ((offered_ & kLogAll) == 0) {
    return std::unexpected(Error::unsupported(fmt::format("{}: the host's vhost keeps no dirty log", name_)));
  }
  for (uint64_t word = 0; word < log_.count; ++word) log_.words[word].store(0, std::memory_order_relaxed);
  STRATO_TRY(use_log_for(*memory_));
  logging_ = true;
  const auto begin = [this]() STRATO_REQUIRES(mutex_) -> Result<> {
    if (features_known_) STRATO_TRY(apply_features());
    for (size_t index = 0; index < rings_.size(); ++index) {
      if (rings_[index]->started) STRATO_TRY(set_addresses(index));
    }
    return {};
  };
  Result<> begun = begin();
  if (!begun) {
    logging_ = false;
    return std::unexpected(std::move(begun).error().context(name_));
  }
  return {};
}

Result<> KernelVhost::stop_dirty_log() {
  MutexLock lock(mutex_);
  if (!std::exchange(logging_, false)) return {};
  if (features_known_) STRATO_TRY(apply_features());
  for (size_t index = 0; index < rings_.size(); ++index) {
    if (rings_[index]->started) STRATO_TRY(set_addresses(index));
  }
  return {};
}

void KernelVhost::collect_dirty_log() {
  MutexLock lock(mutex_);
  collect(log_);
}

void KernelVhost::collect(const Log& log) {
  if (memory_ == nullptr) return;
  for (const std::shared_ptr<const MappedRegion>& region : memory_->regions()) {
    if (!is_ram(region)) continue;
    const uint64_t first = region->start().raw() / kLogPageBytes;
    const uint64_t last = (region->end_raw() - 1) / kLogPageBytes;
    for (uint64_t word = first / 64; word <= last / 64 && word < log.count; ++word) {
      uint64_t mine = ~uint64_t{0};
      if (word == first / 64) mine &= ~uint64_t{0} << first % 64;
      if (word == last / 64) mine &= ~uint64_t{0} >> (63 - last % 64);
      if ((log.words[word].load(std::memory_order_relaxed) & mine) == 0) continue;
      // Other regions may have bits in the same word.
      uint64_t dirty = log.words[word].fetch_and(~mine, std::memory_order_acq_rel) & mine;
      for (; dirty != 0; dirty &= dirty - 1) {
        const uint64_t page = word * 64 + static_cast<uint64_t>(std::countr_zero(dirty));
        region->dirty_log().mark((page - first) * kLogPageBytes, kLogPageBytes);
      }
    }
  }
}

}  // namespace strato
