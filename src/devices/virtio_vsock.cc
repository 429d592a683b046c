#include "devices/virtio_vsock.h"

#include <fmt/format.h>

#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato::virtio {
namespace {

// Of each direction in one round of the loop.
constexpr int kRoundPackets = 128;

// §5.10.2
constexpr size_t kReceive = 0;
constexpr size_t kTransmit = 1;
constexpr size_t kEvents = 2;

}  // namespace

Result<std::unique_ptr<Vsock>> Vsock::create(Args args, const std::optional<VsockState>& state) {
  std::unique_ptr<Vsock> vsock(new Vsock(std::move(args)));
  if (!state) return vsock;
  if (state->next_host_port < VsockSwitch::kFirstHostPort || state->next_host_port > VsockSwitch::kLastHostPort) {
    return std::unexpected(
        Error::invalid(fmt::format("{}: saved with host port {}", vsock->name_, state->next_host_port)));
  }
  vsock->restored_host_port_ = state->next_host_port;
  vsock->started_ = state->driver_running;
  if (state->driver_running) vsock->events_.restored();
  return vsock;
}

Vsock::Vsock(Args args)
    : name_(std::move(args.name)),
      guest_cid_(args.guest_cid),
      listening_(std::move(args.listening)),
      config_(VsockConfig{.guest_cid = guest_cid_}) {}

Vsock::~Vsock() = default;

// --- life cycle

void Vsock::start(uint64_t /*features*/) {
  started_ = true;
}

// Workers come and go on the loop alone, in the order of these calls.
Result<> Vsock::start_queue(size_t index, QueueWiring wiring) {
  EventLoop& loop = wiring.loop;
  EventLoop* before = loop_.exchange(&loop);
  STRATO_ASSERT(before == nullptr || before == &loop);
  loop.post(alive_.token(), [this, index, wiring = std::move(wiring)]() mutable { begin(index, std::move(wiring)); });
  return {};
}

void Vsock::begin(size_t index, QueueWiring wiring) {
  STRATO_ASSERT(workers_[index] == nullptr);
  if (switch_ == nullptr) {
    hook_ = wiring.loop.add_hook(*this);
    switch_ = std::make_unique<VsockSwitch>(
        VsockSwitch::Args{
            .name = name_, .guest_cid = guest_cid_, .listening = listening_, .next_host_port = restored_host_port_},
        wiring.loop, [this] { due_ = true; });
  }
  workers_[index] = std::make_unique<QueueWorker>(name_, std::move(wiring), [this] { due_ = true; });
  if (index == kReceive) {
    // A ring for each buffer that comes back would tell us nothing.
    workers_[index]->queue().disable_notifications();
    receive_starved_ = false;
  }
  due_ = true;
}

void Vsock::stop_queue(size_t index, ReturnQueue done) {
  loop_.load()->post(alive_.token(), [this, index, done = std::move(done)]() mutable {
    switch_->set_running(false);
    Queue queue = workers_[index]->take();
    workers_[index].reset();
    done(std::move(queue));
  });
}

void Vsock::reset(Done done) {
  run_on(loop_, alive_.token(), [this, done = std::move(done)]() mutable {
    clear();
    done();
  });
}

void Vsock::clear() {
  started_ = false;
  events_.clear();
  if (switch_ != nullptr) {
    switch_->set_running(false);
    switch_->clear();
  }
  for (std::unique_ptr<QueueWorker>& worker : workers_) worker.reset();
}

Result<std::vector<std::byte>> Vsock::save() const {
  return state::to_bytes(
      VsockState{.driver_running = started_,
                 .next_host_port = switch_ != nullptr ? switch_->next_host_port() : restored_host_port_});
}

// --- queues

// All that this round of the loop has brought, at once.
void Vsock::before_sleep() {
  if (std::exchange(due_, false)) serve();
}

void Vsock::serve() {
  if (workers_[kEvents] != nullptr) events_.serve(name_, *workers_[kEvents]);
  const bool running = workers_[kReceive] != nullptr && workers_[kTransmit] != nullptr && events_.settled();
  switch_->set_running(running);
  switch_->sweep();
  if (!running) return;
  const bool more_to_take = serve_transmit();
  const bool more_to_give = serve_receive();
  workers_[kTransmit]->publish();
  workers_[kReceive]->publish();
  // After what else waits on the loop.
  if (more_to_take || more_to_give) {
    loop_.load()->post(alive_.token(), [this] { due_ = true; });
  }
}

// True: there may be more, and it can be taken.
bool Vsock::serve_transmit() {
  Queue& queue = workers_[kTransmit]->queue();
  for (int budget = kRoundPackets; budget > 0; --budget) {
    if (!switch_->can_take()) return false;  // serve_receive() makes room
    GuestResult<std::optional<Chain>> next = queue.pop();
    if (!next || !*next) return false;
    Chain chain = **std::move(next);
    switch_->take(chain.reader);
    queue.push_used(std::move(chain), 0);
  }
  return true;
}

bool Vsock::serve_receive() {
  Queue& queue = workers_[kReceive]->queue();
  const bool could_take = switch_->can_take();
  if (std::exchange(receive_starved_, false)) queue.disable_notifications();
  for (int budget = kRoundPackets; switch_->has_packet(); --budget) {
    if (budget == 0) return true;
    GuestResult<std::optional<Chain>> next = queue.pop();
    if (!next) return false;
    if (!*next) {
      if (queue.enable_notifications()) {
        queue.disable_notifications();
        continue;
      }
      receive_starved_ = true;
      break;
    }
    Chain chain = **std::move(next);
    if (chain.writer.remaining() <= sizeof(VsockHeader)) {
      log_guest(LogLevel::Warn, "{}: a receive buffer without room for a packet", name_);
      queue.push_used(std::move(chain), 0);
      continue;
    }
    const uint32_t written = switch_->fill(chain.writer);
    if (written == 0) {
      queue.unpop(std::move(chain));
    } else {
      queue.push_used(std::move(chain), written);
    }
  }
  return !could_take && switch_->can_take();
}

}  // namespace strato::virtio
