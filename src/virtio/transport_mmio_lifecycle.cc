// The machine's side of the transport: made, plugged, paused, saved, restored.
#include <fmt/format.h>

#include <atomic>

#include "base/assert.h"
#include "state/format.h"
#include "virtio/transport_mmio.h"

namespace strato::virtio {

TransportMmio::TransportMmio(Args args)
    : name_(std::move(args.name)), memory_(args.memory), line_(args.interrupt), doorbells_(std::move(args.doorbells)) {}

TransportMmio::~TransportMmio() = default;

Result<std::unique_ptr<TransportMmio>> TransportMmio::create(Args args, std::optional<Plug> plug,
                                                             const std::optional<TransportMmioState>& state) {
  std::unique_ptr<TransportMmio> transport(new TransportMmio(std::move(args)));
  if (plug) STRATO_TRY(transport->put_in(*std::move(plug)));
  if (state) {
    Result<> restored = transport->restore(*state);
    if (!restored) return std::unexpected(std::move(restored).error().context(transport->name_));
  }
  return transport;
}

Result<> TransportMmio::put_in(Plug plug) {
  STRATO_ASSERT(plug.device != nullptr && !plug.loops.empty());
  MutexLock lock(mutex_);
  if (device_ != nullptr) return std::unexpected(Error::exists(fmt::format("{}: a device is there already", name_)));
  const size_t queues = plug.device->queue_sizes().size();
  if (queues > doorbells_.size()) {
    return std::unexpected(Error::unsupported(
        fmt::format("{}: the device has {} queues, at most {} fit here", name_, queues, doorbells_.size())));
  }
  plug.device->config().on_notify([this] { config_changed(); });
  device_ = std::move(plug.device);
  loops_ = std::move(plug.loops);
  withheld_features_ = plug.withheld_features;
  clear_registers();
  return {};
}

Result<> TransportMmio::attach(Plug plug) {
  STRATO_TRY(put_in(std::move(plug)));
  interrupt_driver(kInterruptConfigChange);
  return {};
}

void TransportMmio::detach(std::move_only_function<void(std::unique_ptr<Device>)> done) {
  sequencer_.submit([this, done = std::move(done)](Done next) mutable {
    reset_device([this, done = std::move(done), next = std::move(next)]() mutable {
      std::unique_ptr<Device> out;
      {
        MutexLock lock(mutex_);
        out = std::move(device_);
        clear_registers();
      }
      if (out != nullptr) out->config().on_notify({});
      next();
      done(std::move(out));
    });
  });
}

Result<> TransportMmio::check_replacement(const Plug& plug) const {
  MutexLock lock(mutex_);
  if (device_ == nullptr || plug.device->type() != device_->type()) {
    return std::unexpected(Error::invalid(fmt::format("{}: no device of this type is there to be replaced", name_)));
  }
  const std::span<const uint16_t> sizes = plug.device->queue_sizes();
  bool queues_fit = sizes.size() == queues_.size();
  for (size_t index = 0; queues_fit && index < sizes.size(); ++index) {
    queues_fit = !queues_[index].ready || queues_[index].config.size <= sizes[index];
  }
  if (!queues_fit) {
    return std::unexpected(Error::invalid(fmt::format("{}: the driver uses queues that this device lacks", name_)));
  }
  if (!has_status(kStatusFeaturesOk)) return {};
  const uint64_t offered = (plug.device->features() & ~plug.withheld_features) | kFeatureVersion1;
  if ((driver_features_ & ~offered) == 0 && plug.device->accepts(driver_features_)) return {};
  return std::unexpected(Error::unsupported(
      fmt::format("{}: the driver uses features {:#x} that this device lacks", name_, driver_features_ & ~offered)));
}

std::unique_ptr<Device> TransportMmio::exchange_device(Plug plug) {
  plug.device->config().on_notify([this] { config_changed(); });
  std::unique_ptr<Device> out;
  {
    MutexLock lock(mutex_);
    // The driver may be reading: it sees that this is not what it began with.
    plug.device->config().set_generation(device_->config().generation() + 1);
    out = std::exchange(device_, std::move(plug.device));
    loops_ = std::move(plug.loops);
    withheld_features_ = plug.withheld_features;
  }
  out->config().on_notify({});
  return out;
}

void TransportMmio::replace(Plug plug, std::move_only_function<void(Result<std::unique_ptr<Device>>)> done) {
  STRATO_ASSERT(plug.device != nullptr && !plug.loops.empty());
  sequencer_.submit([this, plug = std::move(plug), done = std::move(done)](Done next) mutable {
    if (Result<> fits = check_replacement(plug); !fits) {
      next();
      return done(std::unexpected(std::move(fits).error()));
    }
    auto put = [this, plug = std::move(plug), done = std::move(done), next = std::move(next)]() mutable {
      std::unique_ptr<Device> out = exchange_device(std::move(plug));
      bool started = false;
      bool paused = false;
      uint64_t features = 0;
      {
        MutexLock lock(mutex_);
        started = started_;
        paused = paused_;
        features = driver_features_;
      }
      if (started) device()->start(features);
      if (started && !paused) start_ready_queues();
      if (has_status(kStatusDriverOk)) interrupt_driver(kInterruptConfigChange);
      next();
      done(std::move(out));
    };
    stop_all_queues([this, put = std::move(put)]() mutable { device()->reset(std::move(put)); });
  });
}

Device* TransportMmio::device() const {
  MutexLock lock(mutex_);
  return device_.get();
}

void TransportMmio::reset(Done done) {
  sequencer_.submit([this, done = std::move(done)](Done next) mutable {
    reset_device([done = std::move(done), next = std::move(next)]() mutable {
      next();
      done();
    });
  });
}

void TransportMmio::stop_all_queues(Done done) {
  struct Waiting {
    explicit Waiting(Done done_to_call) : done(std::move(done_to_call)) {}
    void count_down() {
      if (left.fetch_sub(1) == 1) done();
    }
    std::atomic<size_t> left{1};
    Done done;
  };
  auto waiting = std::make_shared<Waiting>(std::move(done));
  std::vector<size_t> running;
  {
    MutexLock lock(mutex_);
    for (size_t index = 0; index < queues_.size(); ++index) {
      if (queues_[index].running) running.push_back(index);
    }
  }
  waiting->left += running.size();
  for (const size_t index : running) {
    device()->stop_queue(index, [this, index, waiting](Queue queue) {
      {
        MutexLock lock(mutex_);
        queues_[index].running = false;
        queues_[index].queue = std::move(queue);
      }
      waiting->count_down();
    });
  }
  waiting->count_down();
}

void TransportMmio::pause(Done done) {
  sequencer_.submit([this, done = std::move(done)](Done next) mutable {
    auto finish = [this, done = std::move(done), next = std::move(next)]() mutable {
      {
        MutexLock lock(mutex_);
        paused_ = true;
      }
      next();
      done();
    };
    stop_all_queues([this, finish = std::move(finish)]() mutable {
      Device* there = device();
      if (there != nullptr) return there->pause(std::move(finish));
      finish();
    });
  });
}

void TransportMmio::resume() {
  sequencer_.submit([this](Done next) {
    bool was_paused = false;
    bool started = false;
    {
      MutexLock lock(mutex_);
      was_paused = std::exchange(paused_, false);
      started = started_;
    }
    Device* there = device();
    if (was_paused && there != nullptr) {
      there->resume();
      if (started) {
        start_ready_queues();
      } else if (has_status(kStatusDriverOk)) {
        start_device();  // restored
      }
      // An interrupt may have been under way when the state was saved; one too many does no harm.
      if (interrupt_status_.load() != 0) line_.raise();
    }
    next();
  });
}

TransportMmioState TransportMmio::state() const {
  MutexLock lock(mutex_);
  STRATO_ASSERT(paused_);
  TransportMmioState state{
      .device_type = device_ == nullptr ? 0 : static_cast<uint32_t>(device_->type()),
      .status = status_.load(),
      .device_features_sel = device_features_sel_,
      .driver_features_sel = driver_features_sel_,
      .driver_features = driver_features_,
      .queue_sel = queue_sel_,
      .shm_sel = shm_sel_,
      // Who restores it may have other queues, which say what they want.
      .interrupt_status = interrupt_status_.load() | (raised_by_others_.load() ? kInterruptUsedBuffer : 0),
      .config_generation = device_ == nullptr ? 0 : device_->config().generation()};
  for (const QueueSlot& slot : queues_) {
    MmioQueueState& queue = state.queues.emplace_back();
    queue.config = slot.config;
    queue.ready = slot.ready;
    if (slot.queue) queue.progress = slot.queue->progress();
    // A broken one is that until a reset, whatever its indexes were.
    if (slot.broken || queue.progress.broken) queue.progress = {.broken = true};
  }
  return state;
}

// What was raised until now is to be in the saved state of the interrupt controller: masking waits for it.
Result<> TransportMmio::prepare_save() {
  line_.mask();
  line_.unmask();
  return {};
}

Result<std::vector<std::byte>> TransportMmio::save() const {
  TransportMmioState whole = state();
  const Device* there = device();
  if (there != nullptr) whole.device = STRATO_TRY(there->save());
  return state::to_bytes(whole);
}

Result<> TransportMmio::restore(const TransportMmioState& state) {
  MutexLock lock(mutex_);
  const uint32_t type = device_ == nullptr ? 0 : static_cast<uint32_t>(device_->type());
  if (state.device_type != type) {
    return std::unexpected(
        Error::invalid(fmt::format("saved with a device of type {}, here is type {}", state.device_type, type)));
  }
  if (state.queues.size() != queues_.size()) {
    return std::unexpected(
        Error::invalid(fmt::format("saved with {} queues, the device has {}", state.queues.size(), queues_.size())));
  }
  STRATO_TRY(check_saved_status(state));
  status_.store(state.status);
  interrupt_status_.store(state.interrupt_status);
  device_features_sel_ = state.device_features_sel;
  driver_features_sel_ = state.driver_features_sel;
  driver_features_ = state.driver_features;
  queue_sel_ = state.queue_sel;
  shm_sel_ = state.shm_sel;
  paused_ = true;
  if (device_ != nullptr) device_->config().set_generation(state.config_generation);
  for (size_t index = 0; index < queues_.size(); ++index) {
    STRATO_TRY(restore_queue(index, state.queues[index]));
  }
  return {};
}

// A status that write_status() can have made.
Result<> TransportMmio::check_saved_status(const TransportMmioState& state) const {
  const auto has = [&state](uint32_t bit) { return (state.status & bit) != 0; };
  const bool known = (state.status & ~uint32_t{0xff}) == 0 && !has(16) && !has(32);
  const bool in_order = (!has(kStatusDriver) || has(kStatusAcknowledge)) &&
                        (!has(kStatusFeaturesOk) || has(kStatusDriver)) &&
                        (!has(kStatusDriverOk) || has(kStatusFeaturesOk));
  if (!known || !in_order || (device_ == nullptr && state.status != 0)) {
    return std::unexpected(Error::invalid(fmt::format("status {:#x} is none that a driver can reach", state.status)));
  }
  if ((state.interrupt_status & ~(kInterruptUsedBuffer | kInterruptConfigChange)) != 0) {
    return std::unexpected(Error::invalid(fmt::format("interrupt status {:#x}", state.interrupt_status)));
  }
  if (!has(kStatusFeaturesOk)) return {};
  const uint64_t missing = state.driver_features & ~offered_features();
  if (missing != 0 || (state.driver_features & kFeatureVersion1) == 0 || !device_->accepts(state.driver_features)) {
    return std::unexpected(
        Error::unsupported(fmt::format("the driver uses features {:#x}, of which the device here does not offer {:#x}",
                                       state.driver_features, missing)));
  }
  return {};
}

Result<> TransportMmio::restore_queue(size_t index, const MmioQueueState& state) {
  QueueSlot& slot = queues_[index];
  slot.config = state.config;
  if (!state.ready) return {};
  slot.ready = true;
  if (state.progress.broken) {
    slot.broken = true;  // until the driver resets the device; its rings need not even be there
    return {};
  }
  const uint32_t limit = device_->queue_sizes()[index];
  if (!has_status(kStatusFeaturesOk) || state.config.size > limit ||
      state.config != state.config.with_features(driver_features_)) {
    return std::unexpected(Error::invalid(fmt::format("queue {}: not what the driver negotiated", index)));
  }
  GuestResult<Queue> made = Queue::create(memory_.snapshot(), state.config, state.progress);
  if (!made) return std::unexpected(Error::invalid(fmt::format("queue {}: {}", index, to_string(made.error()))));
  made->follow(memory_);
  watch_queue(*made);
  slot.queue = *std::move(made);
  return {};
}

}  // namespace strato::virtio
