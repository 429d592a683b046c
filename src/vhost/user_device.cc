#include "vhost/user_device.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace strato::vhost {
namespace {

// Requests that are ended in one round of the loop: a driver that goes on asking does not keep it from others.
constexpr int kEndsPerRound = 256;

}  // namespace

UserDevice::UserDevice(Args args, UserConnection connection)
    : args_(std::move(args)), config_(args_.config.size()), queues_(args_.queue_sizes.size()) {
  config_.store_bytes(0, args_.config);
  args_.loop.post(alive_.token(), [this, connection = std::move(connection)]() mutable {
    retry_.emplace(args_.loop, [this] { try_to_connect(); });
    use(std::move(connection));
  });
}

UserDevice::~UserDevice() {
  for (const std::unique_ptr<Queue>& queue : queues_) {
    if (queue != nullptr) abandon_held(*queue);
  }
}

// --- from the transport, on any thread

void UserDevice::start(uint64_t features) {
  args_.loop.post(alive_.token(), [this, features] {
    driver_features_ = features & args_.features;
    features_told_ = false;
  });
}

Result<> UserDevice::start_queue(size_t index, virtio::QueueWiring wiring) {
  STRATO_ASSERT(&wiring.loop == &args_.loop);
  args_.loop.post(alive_.token(),
                  [this, index, wiring = std::move(wiring)]() mutable { begin_queue(index, std::move(wiring)); });
  return {};
}

void UserDevice::stop_queue(size_t index, virtio::ReturnQueue done) {
  args_.loop.post(alive_.token(),
                  [this, index, done = std::move(done)]() mutable { end_queue(index, std::move(done)); });
}

void UserDevice::reset(Done done) {
  args_.loop.post(alive_.token(), [this, done = std::move(done)]() mutable { reset_next(std::move(done)); });
}

void UserDevice::reset_next(Done done) {
  const auto running = std::ranges::find_if(queues_, [](const auto& queue) { return queue != nullptr; });
  if (running == queues_.end()) {
    driver_features_ = 0;
    return done();
  }
  end_queue(static_cast<size_t>(running - queues_.begin()),
            [this, done = std::move(done)](const virtio::Queue& /*queue*/) mutable { reset_next(std::move(done)); });
}

Result<std::vector<std::byte>> UserDevice::save() const {
  return std::unexpected(Error::unsupported(
      fmt::format("device '{}' ({}) cannot be saved: its state is with its back end, which does not give it away",
                  args_.name, args_.driver)));
}

// --- the connection

void UserDevice::use(UserConnection connection) {
  link_ = std::make_unique<UserLink>(args_.loop, args_.name, std::move(connection),
                                     [this](const Error& error) { lost(error); });
  // New ones: the back end before may still be there, and write to those that it had.
  rings_.reset();
  memory_.reset();
  features_told_ = false;
  for (size_t index = 0; index < queues_.size(); ++index) {
    if (queues_[index] != nullptr) start_ring(index);
  }
}

void UserDevice::lost(const Error& error) {
  log_guest(LogLevel::Error, "{}: the back end at {}: {}; until one is there again requests fail", args_.name,
            args_.address.to_string(), error.text());
  link_.reset();
  for (const std::unique_ptr<Queue>& queue : queues_) {
    if (queue != nullptr) forget_ring(*queue);
  }
  for (size_t index = 0; index < queues_.size(); ++index) {
    if (queues_[index] == nullptr) continue;
    if (queues_[index]->on_stopped) {
      finish_end(index);
    } else {
      serve(index);
    }
  }
  try_later();
}

// What the back end had done with counts, the rest is as if it had never had it.
void UserDevice::forget_ring(Queue& queue) {
  if (queue.ring) {
    if (Result<> taken = take_back(queue); !taken) {
      log_guest(LogLevel::Warn, "{}: the last that its back end said: {}", args_.name, taken.error().text());
    }
  }
  abandon_held(queue);
  queue.call_watch.reset();
  queue.ring.reset();
  queue.state = RingState::None;
}

void UserDevice::try_later() {
  if (args_.retry_ns != 0) retry_->arm(args_.retry_ns);
}

void UserDevice::try_to_connect() {
  // A unix socket connects at once or not at all.
  Result<UniqueFd> socket = start_connecting(args_.address);
  if (!socket) {
    log(LogLevel::Debug, "{}: {}", args_.name, socket.error().text());
    return try_later();
  }
  handshake_ = std::make_unique<UserHandshake>(
      args_.loop, args_.name, *std::move(socket), args_.needs, [this](Result<UserConnection> result) {
        const std::unique_ptr<UserHandshake> ended = std::move(handshake_);
        // A driver goes on with the features that it has.
        if (result && (driver_features_ & ~result->features) != 0) {
          result = std::unexpected(Error::unsupported(
              fmt::format("it lacks features {:#x}, which the driver uses", driver_features_ & ~result->features)));
        }
        if (!result) {
          log_guest(LogLevel::Error, "{}: the back end at {}: {}", args_.name, args_.address.to_string(),
                    result.error().text());
          return try_later();
        }
        log_guest(LogLevel::Info, "{}: a back end is at {} again", args_.name, args_.address.to_string());
        use(*std::move(result));
      });
}

// --- queues

void UserDevice::begin_queue(size_t index, virtio::QueueWiring wiring) {
  STRATO_ASSERT(queues_[index] == nullptr);
  queues_[index] = std::make_unique<Queue>(
      std::make_unique<virtio::QueueWorker>(args_.name, std::move(wiring), [this, index] { serve(index); }));
  if (link_ != nullptr && !link_->failed()) start_ring(index);
  serve(index);
}

Result<> UserDevice::give_memory(const std::shared_ptr<const GuestMemory>& memory) {
  if (rings_ == nullptr) {
    rings_ = STRATO_TRY(UserRing::make_memory(queues_.size()));
    rings_memory_ = std::make_shared<const GuestMemory>(GuestMemory::Regions{rings_});
  }
  if (memory_ != nullptr && memory_->memory() == memory) return {};
  UserMemoryTable table = STRATO_TRY(UserMemoryTable::create(memory, rings_));
  memory_ = std::make_shared<const UserMemoryTable>(std::move(table));
  link_->set_memory(memory_);
  return {};
}

Result<> UserDevice::make_ring(size_t index) {
  Queue& queue = *queues_[index];
  STRATO_TRY(give_memory(queue.worker->queue().memory()));
  queue.kick = STRATO_TRY(EventFd::create());
  queue.call = STRATO_TRY(EventFd::create());
  // Edge triggered: each signal wakes us once, and nobody needs to read the count.
  queue.call_watch =
      STRATO_TRY(args_.loop.watch(queue.call->fd(), EPOLLIN | EPOLLET, [this, index](uint32_t) { collect(index); }));
  queue.ring.emplace(rings_memory_, index);
  return {};
}

void UserDevice::start_ring(size_t index) {
  Queue& queue = *queues_[index];
  queue.state = RingState::Starting;
  if (!features_told_) link_->set_features(driver_features_);
  features_told_ = true;
  if (Result<> made = make_ring(index); !made) return link_->fail(std::move(made).error());
  link_->start_ring(
      {.index = index, .places = UserRing::places(*rings_, index), .kick = queue.kick->fd(), .call = queue.call->fd()},
      [this, index] {
        // It may be asked to stop already.
        if (queues_[index]->state != RingState::Starting) return;
        queues_[index]->state = RingState::Live;
        serve(index);
      });
}

void UserDevice::end_queue(size_t index, virtio::ReturnQueue done) {
  STRATO_ASSERT(queues_[index] != nullptr);
  Queue& queue = *queues_[index];
  queue.on_stopped = std::move(done);
  if (queue.state == RingState::None) return finish_end(index);
  queue.state = RingState::Stopping;
  link_->stop_ring(index, [this, index] {
    if (Result<> taken = take_back(*queues_[index]); !taken) return link_->fail(std::move(taken).error());
    finish_end(index);
  });
}

void UserDevice::finish_end(size_t index) {
  const std::unique_ptr<Queue> queue = std::move(queues_[index]);
  abandon_held(*queue);
  queue->worker->publish();
  virtio::Queue inner = queue->worker->take();
  virtio::ReturnQueue done = std::move(queue->on_stopped);
  queue->worker.reset();
  done(std::move(inner));
}

// --- requests

void UserDevice::serve(size_t index) {
  Queue& queue = *queues_[index];
  if (queue.state == RingState::Live) return relay(queue);
  if (queue.state == RingState::None) end_all(queue);
}

void UserDevice::relay(Queue& queue) {
  bool any = false;
  while (queue.ring->room() != 0) {
    GuestResult<std::optional<virtio::Chain>> next = queue.worker->queue().pop();
    if (!next || !*next) break;
    if (relay_one(queue, **std::move(next)) == Taken::NoRoom) break;
    any = true;
  }
  if (any && queue.ring->publish()) queue.kick->signal();
  queue.worker->publish();
}

bool UserDevice::to_pieces(const DmaLease& lease, bool writable) {
  for (const iovec& piece : lease.iovecs()) {
    const std::optional<uint64_t> address = memory_->guest_address(piece);
    if (!address) return false;
    pieces_.push_back({.guest_address = *address, .bytes = static_cast<uint32_t>(piece.iov_len), .writable = writable});
  }
  return true;
}

UserDevice::Taken UserDevice::relay_one(Queue& queue, virtio::Chain chain) {
  GuestResult<DmaLease> to_read = chain.reader.lease();
  GuestResult<DmaLease> to_write = chain.writer.lease();
  STRATO_ASSERT(to_read.has_value() && to_write.has_value());
  pieces_.clear();
  const bool reachable = to_pieces(*to_read, false) && to_pieces(*to_write, true);
  if (!reachable || pieces_.empty() || pieces_.size() > UserRing::kSize) {
    log_guest(LogLevel::Warn, "{}: a request of {} pieces that no back end can serve", args_.name, pieces_.size());
    to_write->complete(0);
    queue.worker->queue().push_used(std::move(chain), 0);
    return Taken::Yes;
  }
  if (pieces_.size() > queue.ring->room()) {
    to_write->complete(0);
    queue.worker->queue().unpop(std::move(chain));
    return Taken::NoRoom;
  }
  const uint16_t head = queue.ring->add(pieces_);
  if (head >= queue.held.size()) queue.held.resize(head + size_t{1});
  queue.held[head].emplace(std::move(chain), *std::move(to_read), *std::move(to_write));
  return Taken::Yes;
}

void UserDevice::end_all(Queue& queue) {
  int ended = 0;
  while (ended < kEndsPerRound) {
    GuestResult<std::optional<virtio::Chain>> next = queue.worker->queue().pop();
    if (!next || !*next) break;
    end(queue, **std::move(next));
    ++ended;
  }
  queue.worker->publish();
  if (ended == kEndsPerRound) queue.worker->serve_later();
}

void UserDevice::end(Queue& queue, virtio::Chain chain) {
  const uint32_t written = args_.end_request(chain);
  queue.worker->queue().push_used(std::move(chain), written);
}

// The back end has signalled.
void UserDevice::collect(size_t index) {
  Queue& queue = *queues_[index];
  if (Result<> taken = take_back(queue); !taken) {
    link_->fail(std::move(taken).error());
    queue.worker->publish();
    return;
  }
  // Also what had no room before.
  if (queue.state == RingState::Live) relay(queue);
  queue.worker->publish();
}

Result<> UserDevice::take_back(Queue& queue) {
  for (;;) {
    const std::optional<UserRing::Used> used = STRATO_TRY(queue.ring->take_used());
    if (!used) return {};
    std::optional<Held>& held = queue.held[used->head];
    const uint64_t room = held->to_write.remaining_bytes();
    const uint64_t written = std::min<uint64_t>(used->bytes, room);
    held->to_write.complete(written);
    virtio::Chain chain = std::move(held->chain);
    held.reset();  // the leases end before the chain
    queue.worker->queue().push_used(std::move(chain), static_cast<uint32_t>(written));
    if (used->bytes > room) {
      return std::unexpected(
          Error::invalid(fmt::format("it has written {} bytes to a request with room for {}", used->bytes, room)));
    }
  }
}

// The queue gives them out again.
void UserDevice::abandon_held(Queue& queue) {
  for (std::optional<Held>& slot : queue.held) {
    if (!slot) continue;
    virtio::Chain chain = std::move(slot->chain);
    slot.reset();
    std::move(chain).abandon();
  }
}

}  // namespace strato::vhost
