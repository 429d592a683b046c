#include "devices/virtio_console.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato::virtio {
namespace {

// Messages of a driver in one round of the loop.
constexpr int kRoundMessages = 64;

// §5.3.2: the queues of port 0, those of control, then those of the other ports; the receiving one first.
constexpr size_t kControlReceive = 2;
constexpr size_t kControlTransmit = 3;

constexpr size_t kEmergencyWriteOffset = offsetof(ConsoleConfig, emergency_write);

bool is_control(size_t queue) {
  return queue == kControlReceive || queue == kControlTransmit;
}
uint32_t port_of(size_t queue) {
  return queue < kControlReceive ? 0 : static_cast<uint32_t>(queue / 2 - 1);
}
bool is_receive(size_t queue) {
  return queue % 2 == 0;
}

}  // namespace

Result<std::unique_ptr<Console>> Console::create(Args args, const std::optional<ConsoleState>& state) {
  std::unique_ptr<Console> console(new Console(std::move(args)));
  if (state) STRATO_TRY(console->restore(*state));
  return console;
}

Console::Console(Args args)
    : name_(std::move(args.name)), max_ports_(args.max_ports), single_(max_ports_ == 1 && args.ports.size() == 1) {
  STRATO_ASSERT(max_ports_ >= 1 && max_ports_ <= kMaxConsolePorts);
  const bool multiport = (features() & kConsoleFeatureMultiport) != 0;
  queue_sizes_.assign(multiport ? 2 * max_ports_ + 2 : 2, kPortQueueSize);
  if (multiport) queue_sizes_[kControlReceive] = queue_sizes_[kControlTransmit] = kControlQueueSize;
  workers_.resize(queue_sizes_.size());
  config_.store(offsetof(ConsoleConfig, max_ports), le32(max_ports_));
  for (ConsolePort::Args& port : args.ports) {
    const uint32_t number = port.number;
    STRATO_ASSERT(number < max_ports_ && number < 32 && (port_mask_ >> number) == 0);
    port_mask_ |= uint32_t{1} << number;
    ConsolePort::Callbacks callbacks;
    callbacks.wake = [this, number] { wake(number); };
    callbacks.on_resize = [this] { show_size(); };
    slots_.push_back({.port = std::make_unique<ConsolePort>(std::move(port), std::move(callbacks))});
  }
  if ((port_mask_ & 1) != 0) config_.make_writable(kEmergencyWriteOffset, sizeof(ConsoleConfig::emergency_write));
  show_size();
}

Console::~Console() = default;

uint64_t Console::features() const {
  return kRingFeatures | kConsoleFeatureSize | (single_ ? 0 : kConsoleFeatureMultiport) |
         ((port_mask_ & 1) != 0 ? kConsoleFeatureEmergencyWrite : 0);
}

// §5.3.5: a character for port 0, whatever the driver has or has not set up. On a vCPU thread, which must not wait: a
// character that finds no room is lost.
void Console::config_written(size_t offset, size_t bytes) {
  if (offset > kEmergencyWriteOffset || bytes <= kEmergencyWriteOffset - offset) return;
  const auto character = config_.load<uint8_t>(kEmergencyWriteOffset);
  find_port(0)->port->args().chardev.put(std::as_bytes(std::span(&character, 1)));
}

// The size in the configuration space is that of port 0. Any thread.
void Console::show_size() {
  const PortSlot* console = find_port(0);
  const std::optional<TerminalSize> size = console == nullptr ? std::nullopt : console->port->size();
  if (!size) return;
  const ConsoleResize wanted{.columns = size->columns, .rows = size->rows};
  const auto shown = config_.load<ConsoleResize>(offsetof(ConsoleConfig, columns));
  if (shown.columns == wanted.columns && shown.rows == wanted.rows) return;
  config_.store(offsetof(ConsoleConfig, columns), wanted);
  config_.notify_driver();
}

// --- life cycle

void Console::start(uint64_t features) {
  multiport_ = (features & kConsoleFeatureMultiport) != 0;
}

// Workers come and go on the loop alone, in the order of these calls.
Result<> Console::start_queue(size_t index, QueueWiring wiring) {
  EventLoop& loop = wiring.loop;
  EventLoop* before = loop_.exchange(&loop);
  STRATO_ASSERT(before == nullptr || before == &loop);
  loop.post(alive_.token(), [this, index, wiring = std::move(wiring)]() mutable { begin(index, std::move(wiring)); });
  return {};
}

void Console::begin(size_t index, QueueWiring wiring) {
  STRATO_ASSERT(workers_[index] == nullptr);
  workers_[index] = std::make_unique<QueueWorker>(name_, std::move(wiring), [this, index] { serve(index); });
  set_worker(index, workers_[index].get());
  serve(index);
}

void Console::stop_queue(size_t index, ReturnQueue done) {
  loop_.load()->post(alive_.token(), [this, index, done = std::move(done)]() mutable {
    Queue queue = workers_[index]->take();
    set_worker(index, nullptr);
    workers_[index].reset();
    done(std::move(queue));
  });
}

void Console::reset(Done done) {
  run_on(loop_, alive_.token(), [this, done = std::move(done)]() mutable {
    clear();
    done();
  });
}

void Console::clear() {
  device_ready_ = false;
  for (PortSlot& slot : slots_) {
    slot.port->reset();
    slot = {.port = std::move(slot.port)};
  }
  for (std::unique_ptr<QueueWorker>& worker : workers_) worker.reset();
}

void Console::pause(Done done) {
  for (const PortSlot& slot : slots_) slot.port->pause();
  done();
}

// What has changed on the host meanwhile is told when the queues start.
void Console::resume() {
  for (const PortSlot& slot : slots_) slot.port->resume();
  show_size();
}

Result<std::vector<std::byte>> Console::save() const {
  const auto size = config_.load<ConsoleResize>(offsetof(ConsoleConfig, columns));
  ConsoleState state{.device_ready = device_ready_, .columns = size.columns.get(), .rows = size.rows.get()};
  for (const PortSlot& slot : slots_) {
    ConsolePortState& port = state.ports.emplace_back(ConsolePortState{.add_due = slot.add_due,
                                                                       .console_due = slot.console_due,
                                                                       .name_due = slot.name_due,
                                                                       .ready = slot.ready,
                                                                       .told_open = slot.told_open,
                                                                       .told_columns = slot.told_size.columns,
                                                                       .told_rows = slot.told_size.rows});
    slot.port->save(port);
  }
  return state::to_bytes(state);
}

Result<> Console::restore(const ConsoleState& state) {
  const bool same_ports = std::ranges::equal(
      slots_, state.ports, {}, [](const PortSlot& slot) { return slot.port->args().number; },
      &ConsolePortState::number);
  if (!same_ports) return std::unexpected(Error::invalid(fmt::format("{}: saved with other ports", name_)));
  device_ready_ = state.device_ready;
  config_.store(offsetof(ConsoleConfig, columns), ConsoleResize{.columns = state.columns, .rows = state.rows});
  for (size_t i = 0; i < slots_.size(); ++i) {
    PortSlot& slot = slots_[i];
    const ConsolePortState& port = state.ports[i];
    slot.add_due = port.add_due;
    slot.console_due = port.console_due;
    slot.name_due = port.name_due;
    slot.ready = port.ready;
    slot.told_open = port.told_open;
    slot.told_size = {.columns = port.told_columns, .rows = port.told_rows};
    STRATO_TRY(slot.port->restore(port));
  }
  return {};
}

// --- queues

Console::PortSlot* Console::find_port(uint32_t number) {
  const auto found = std::ranges::find(slots_, number, [](const PortSlot& slot) { return slot.port->args().number; });
  return found == slots_.end() ? nullptr : &*found;
}

void Console::set_worker(size_t index, QueueWorker* worker) {
  PortSlot* slot = is_control(index) ? nullptr : find_port(port_of(index));
  if (slot == nullptr) return;
  if (is_receive(index)) {
    slot->port->set_receive_queue(worker);
  } else {
    slot->port->set_transmit_queue(worker);
  }
  // §5.3.5: without MULTIPORT there is port 0, and nobody to say that it is open.
  if (!multiport_) slot->port->set_guest_open(port_of(index) == 0);
}

void Console::serve(size_t index) {
  if (index == kControlReceive) return tell_driver();
  if (index == kControlTransmit) return serve_control();
  PortSlot* slot = find_port(port_of(index));
  if (slot == nullptr) return;
  if (is_receive(index)) {
    slot->port->serve_receive();
  } else {
    slot->port->serve_transmit();
  }
}

// On the chardev's loop.
void Console::wake(uint32_t number) {
  EventLoop* loop = loop_;
  if (loop == nullptr) return;
  loop->post(alive_.token(), [this, number] {
    find_port(number)->port->look_again();
    tell_driver();
  });
}

// --- control

void Console::serve_control() {
  QueueWorker& worker = *workers_[kControlTransmit];
  if (!multiport_) return;
  worker.serve_chains(kRoundMessages, [this, &worker](Chain chain) {
    std::array<std::byte, sizeof(ConsoleControl)> buffer;
    const size_t length = chain.reader.read_some(buffer);
    worker.queue().push_used(std::move(chain), 0);
    const auto message = parse_driver_message(std::span(buffer).first(length), port_mask_, device_ready_);
    if (message) {
      handle(*message);
    } else {
      log_guest(LogLevel::Warn, "{}: refused: a control message {}", name_, to_string(message.error()));
    }
  });
  tell_driver();
}

void Console::handle(const DriverMessage& message) {
  switch (message.event) {
    case ConsoleEvent::DeviceReady:
      device_ready_ = message.value;
      if (!message.value) log_guest(LogLevel::Warn, "{}: the driver has failed", name_);
      for (PortSlot& slot : slots_) slot.add_due = message.value;
      return;
    case ConsoleEvent::PortReady: {
      PortSlot& slot = *find_port(message.port);
      slot.ready = message.value;
      slot.console_due = message.value && slot.port->args().is_console;
      slot.name_due = message.value && !slot.port->args().name.empty();
      slot.told_open = false;
      slot.told_openings = slot.port->host_side().openings;
      slot.told_size = {};
      if (!message.value) log_guest(LogLevel::Warn, "{}: the driver has failed", slot.port->args().id);
      return;
    }
    default: {  // PortOpen
      ConsolePort& port = *find_port(message.port)->port;
      port.set_guest_open(message.value);
      port.serve_receive();
    }
  }
}

// As far as there are buffers for it.
void Console::tell_driver() {
  QueueWorker* worker = kControlReceive < workers_.size() ? workers_[kControlReceive].get() : nullptr;
  if (worker == nullptr || !multiport_) return;
  for (PortSlot& slot : slots_) {
    if (!tell_driver_of(slot)) break;
  }
  worker->publish();
}

// False: there is no buffer for what is left.
bool Console::tell_driver_of(PortSlot& slot) {
  const ConsolePort::Args& port = slot.port->args();
  if (slot.add_due) {
    if (!send(slot, ConsoleEvent::PortAdd, 1)) return false;
    slot.add_due = false;
  }
  if (!slot.ready) return true;
  if (slot.console_due) {
    if (!send(slot, ConsoleEvent::ConsolePort, 1)) return false;
    slot.console_due = false;
  }
  if (const std::optional<TerminalSize> size = slot.port->size(); size && port.is_console && *size != slot.told_size) {
    const ConsoleResize resize{.columns = size->columns, .rows = size->rows};
    if (!send(slot, ConsoleEvent::Resize, 0, std::as_bytes(std::span(&resize, 1)))) return false;
    slot.told_size = *size;
  }
  if (slot.name_due) {
    if (!send(slot, ConsoleEvent::PortName, 1, std::as_bytes(std::span(port.name)))) return false;
    slot.name_due = false;
  }
  // Who came and left, or left and came, before we looked makes two messages.
  const ConsolePort::HostSide host = slot.port->host_side();
  while (host.open != slot.told_open || host.openings != slot.told_openings) {
    if (!send(slot, ConsoleEvent::PortOpen, slot.told_open ? 0 : 1)) return false;
    slot.told_open = !slot.told_open;
    if (slot.told_open) slot.told_openings = host.openings;
  }
  return true;
}

bool Console::send(const PortSlot& slot, ConsoleEvent event, uint16_t value, std::span<const std::byte> rest) {
  Queue& queue = workers_[kControlReceive]->queue();
  GuestResult<std::optional<Chain>> next = queue.pop();
  if (!next || !*next) return false;
  Chain chain = **std::move(next);
  uint32_t written = 0;
  if (chain.writer.remaining() >= sizeof(ConsoleControl) + rest.size()) {
    const ConsoleControl control{.id = slot.port->args().number, .event = static_cast<uint16_t>(event), .value = value};
    const bool fits = chain.writer.write(control).has_value() && chain.writer.write_all(rest).has_value();
    STRATO_ASSERT(fits);
    written = static_cast<uint32_t>(sizeof(control) + rest.size());
  } else {
    log_guest(LogLevel::Warn, "{}: a control message finds a buffer of {} bytes only, and is lost", name_,
              chain.writer.remaining());
  }
  queue.push_used(std::move(chain), written);
  return true;
}

}  // namespace strato::virtio
