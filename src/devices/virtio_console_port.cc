#include "devices/virtio_console_port.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.h"

namespace strato::virtio {
namespace {

// What a chain costs of a round's budget at least, so that empty ones are bounded too.
constexpr uint64_t kLeastCost = 256;

}  // namespace

ConsolePort::ConsolePort(Args args, Callbacks callbacks) : args_(std::move(args)), callbacks_(std::move(callbacks)) {
  {
    MutexLock lock(mutex_);
    connected_ = args_.chardev.connected();
    size_ = args_.chardev.terminal_size();
  }
  args_.chardev.attach(this);
}

ConsolePort::~ConsolePort() {
  args_.chardev.attach(nullptr);
}

ConsolePort::HostSide ConsolePort::host_side() const {
  if (args_.is_console) return {.open = true, .openings = 0};
  MutexLock lock(mutex_);
  return {.open = connected_, .openings = openings_};
}

std::optional<TerminalSize> ConsolePort::size() const {
  MutexLock lock(mutex_);
  return size_;
}

// --- life cycle

void ConsolePort::pause() {
  MutexLock lock(mutex_);
  paused_ = true;
}

void ConsolePort::resume() {
  bool wanted = false;
  {
    MutexLock lock(mutex_);
    paused_ = false;
    wanted = input_.size() < kInputBytes && std::exchange(input_stopped_, false);
  }
  if (wanted) args_.chardev.resume_input();
}

void ConsolePort::reset() {
  receive_ = nullptr;
  transmit_ = nullptr;
  guest_open_ = false;
  blocked_ = false;
  sent_bytes_ = 0;
}

void ConsolePort::save(ConsolePortState& state) const {
  state.number = args_.number;
  state.guest_open = guest_open_;
  state.sent_bytes = sent_bytes_;
  state.input.assign(taken_.begin() + static_cast<ptrdiff_t>(taken_head_), taken_.end());
  MutexLock lock(mutex_);
  state.input.insert(state.input.end(), input_.begin(), input_.end());
}

Result<> ConsolePort::restore(const ConsolePortState& state) {
  if (state.input.size() > 2 * kInputBytes) {
    return std::unexpected(Error::invalid(fmt::format("saved port {}: {} bytes of input, at most {} can be",
                                                      state.number, state.input.size(), 2 * kInputBytes)));
  }
  guest_open_ = state.guest_open;
  sent_bytes_ = state.sent_bytes;
  const auto rest = state.input.begin() + static_cast<ptrdiff_t>(std::min(state.input.size(), kInputBytes));
  taken_.assign(state.input.begin(), rest);
  MutexLock lock(mutex_);
  input_.assign(rest, state.input.end());
  return {};
}

// --- to the driver

// In two buffers: the chardev fills one while the other is copied, without the lock, to a guest whose memory may have
// to be fetched first.
bool ConsolePort::has_input() {
  if (taken_head_ < taken_.size()) return true;
  taken_.clear();
  taken_head_ = 0;
  bool wanted = false;
  {
    MutexLock lock(mutex_);
    std::swap(taken_, input_);
    wanted = !paused_ && std::exchange(input_stopped_, false);
  }
  if (wanted) args_.chardev.resume_input();
  return !taken_.empty();
}

void ConsolePort::serve_receive() {
  if (receive_ == nullptr || !guest_open_) return;
  Queue& queue = receive_->queue();
  uint64_t budget = kRoundBytes;
  while (budget > 0 && has_input()) {
    GuestResult<std::optional<Chain>> next = queue.pop();
    if (!next || !*next) break;
    Chain chain = **std::move(next);
    const size_t written = chain.writer.write_some(std::span(taken_).subspan(taken_head_));
    if (written == 0) log_guest(LogLevel::Warn, "{}: a receive buffer without room for a byte", args_.id);
    taken_head_ += written;
    queue.push_used(std::move(chain), static_cast<uint32_t>(written));
    budget -= std::min(budget, std::max<uint64_t>(written, kLeastCost));
  }
  receive_->publish();
  if (budget == 0) receive_->serve_later();
}

// --- from the driver

void ConsolePort::set_transmit_queue(QueueWorker* worker) {
  transmit_ = worker;
  blocked_ = false;
}

void ConsolePort::serve_transmit() {
  if (transmit_ == nullptr) return;
  Queue& queue = transmit_->queue();
  uint64_t budget = kRoundBytes;
  while (budget > 0 && !blocked_) {
    GuestResult<std::optional<Chain>> next = queue.pop();
    if (!next || !*next) break;
    budget -= std::min(budget, send(**std::move(next), budget));
  }
  transmit_->publish();
  if (budget == 0) transmit_->serve_later();
}

// Returns what it costs of the budget. A chain that is not through goes back into the queue, and sent_bytes_ remembers
// how far it is: so a queue can be stopped and saved at any time.
uint64_t ConsolePort::send(Chain chain, uint64_t budget) {
  // Fewer bytes than that: the driver has changed the chain since, at its own loss.
  const GuestResult<> skipped = chain.reader.skip(std::min(sent_bytes_, chain.reader.remaining()));
  STRATO_ASSERT(skipped.has_value());
  std::array<std::byte, 4096> buffer;
  uint64_t cost = kLeastCost;
  while (cost < budget && !blocked_ && !chain.reader.empty()) {
    const size_t wanted = chain.reader.read_some(buffer);
    const size_t taken = write(std::span(buffer).first(wanted));
    sent_bytes_ += taken;
    cost += taken;
    blocked_ = taken < wanted;
  }
  if (blocked_ || !chain.reader.empty()) {
    transmit_->queue().unpop(std::move(chain));
  } else {
    sent_bytes_ = 0;
    transmit_->queue().push_used(std::move(chain), 0);
  }
  return cost;
}

size_t ConsolePort::write(std::span<const std::byte> data) {
  if (!args_.is_console) return args_.chardev.write(data);
  args_.chardev.put(data);
  return data.size();
}

void ConsolePort::look_again() {
  bool retry = false;
  {
    MutexLock lock(mutex_);
    retry = std::exchange(retry_output_, false);
  }
  serve_receive();
  if (!retry) return;
  blocked_ = false;
  serve_transmit();
}

// --- the chardev's side

size_t ConsolePort::input_room() {
  MutexLock lock(mutex_);
  const size_t room = paused_ ? 0 : kInputBytes - input_.size();
  if (room == 0) input_stopped_ = true;
  return room;
}

void ConsolePort::on_input(std::span<const std::byte> data) {
  {
    MutexLock lock(mutex_);
    // What input_room() promised: nobody else adds.
    STRATO_ASSERT(data.size() <= kInputBytes - input_.size());
    input_.reserve(kInputBytes);
    input_.insert(input_.end(), data.begin(), data.end());
  }
  callbacks_.wake();
}

void ConsolePort::on_writable() {
  {
    MutexLock lock(mutex_);
    retry_output_ = true;
  }
  callbacks_.wake();
}

void ConsolePort::on_connection(bool connected) {
  {
    MutexLock lock(mutex_);
    connected_ = connected;
    if (connected) ++openings_;
    retry_output_ = true;  // what waited for the peer that has gone is lost now, as on a line without a cable
  }
  callbacks_.wake();
}

void ConsolePort::on_resize(TerminalSize size) {
  {
    MutexLock lock(mutex_);
    size_ = size;
  }
  callbacks_.on_resize();
  callbacks_.wake();
}

}  // namespace strato::virtio
