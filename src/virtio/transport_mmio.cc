#include "virtio/transport_mmio.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato::virtio {

// §4.2.2
enum class TransportMmio::Reg : uint64_t {
  MagicValue = 0x00,
  Version = 0x04,
  DeviceId = 0x08,
  VendorId = 0x0c,
  DeviceFeatures = 0x10,
  DeviceFeaturesSel = 0x14,
  DriverFeatures = 0x20,
  DriverFeaturesSel = 0x24,
  QueueSel = 0x30,
  QueueNumMax = 0x34,
  QueueNum = 0x38,
  QueueReady = 0x44,
  QueueNotify = kQueueNotifyOffset,
  InterruptStatus = 0x60,
  InterruptAck = 0x64,
  Status = 0x70,
  QueueDescLow = 0x80,
  QueueDescHigh = 0x84,
  QueueDriverLow = 0x90,
  QueueDriverHigh = 0x94,
  QueueDeviceLow = 0xa0,
  QueueDeviceHigh = 0xa4,
  ShmSel = 0xac,
  ShmLenLow = 0xb0,
  ShmLenHigh = 0xb4,
  ShmBaseLow = 0xb8,
  ShmBaseHigh = 0xbc,
  ConfigGeneration = 0xfc,
};

namespace {

constexpr uint64_t kConfigOffset = 0x100;
constexpr uint32_t kMagic = 0x74726976;  // "virt"
constexpr uint32_t kVersion = 2;
constexpr uint32_t kVendor = 0;

constexpr uint32_t kDriverStatusBits =
    kStatusAcknowledge | kStatusDriver | kStatusDriverOk | kStatusFeaturesOk | kStatusFailed;

uint32_t low(uint64_t value) {
  return static_cast<uint32_t>(value);
}
uint32_t high(uint64_t value) {
  return static_cast<uint32_t>(value >> 32);
}
void set_low(uint64_t& value, uint32_t half) {
  value = (value & ~uint64_t{0xffffffff}) | half;
}
void set_high(uint64_t& value, uint32_t half) {
  value = (value & 0xffffffff) | uint64_t{half} << 32;
}
// The half of a 64-bit set that a selector names. There are no bits beyond 63.
uint32_t selected_half(uint64_t value, uint32_t selector) {
  if (selector == 0) return low(value);
  return selector == 1 ? high(value) : 0;
}

bool is_register_access(uint64_t offset, size_t bytes) {
  return bytes == 4 && offset % 4 == 0;  // §4.2.2.2
}
bool is_config_access(size_t bytes) {
  return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

}  // namespace

// --- The guest's side ---

void TransportMmio::read(uint64_t offset, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
  MutexLock lock(mutex_);
  if (offset >= kConfigOffset) {
    if (!is_config_access(out.size())) return refuse("configuration read of an odd width");
    if (device_ != nullptr) device_->config().read(offset - kConfigOffset, out);
    return;
  }
  if (!is_register_access(offset, out.size())) return refuse("register read that is not 4 bytes wide and aligned");
  from_register_value(read_register(static_cast<Reg>(offset)), out);
}

uint32_t TransportMmio::read_register(Reg reg) const {
  // §4.2.2.2: an empty slot has these, and DeviceID 0.
  if (reg == Reg::MagicValue) return kMagic;
  if (reg == Reg::Version) return kVersion;
  if (reg == Reg::VendorId) return kVendor;
  if (device_ == nullptr) return 0;
  const QueueSlot* queue = queue_sel_ < queues_.size() ? &queues_[queue_sel_] : nullptr;
  switch (reg) {
    case Reg::DeviceId:
      return static_cast<uint32_t>(device_->type());
    case Reg::DeviceFeatures:
      return selected_half(offered_features(), device_features_sel_);
    case Reg::QueueNumMax:
      return queue == nullptr ? 0 : device_->queue_sizes()[queue_sel_];
    case Reg::QueueReady:
      return queue != nullptr && queue->ready ? 1 : 0;
    case Reg::InterruptStatus:
      return interrupt_status_.load() | (raised_by_others_.load() ? kInterruptUsedBuffer : 0);
    case Reg::Status:
      return status_.load();
    case Reg::ShmLenLow:
    case Reg::ShmLenHigh:
    case Reg::ShmBaseLow:
    case Reg::ShmBaseHigh:
      return read_shared_memory(reg);
    case Reg::ConfigGeneration:
      return device_->config().generation();
    default:
      return 0;  // write-only, or not a register
  }
}

uint32_t TransportMmio::read_shared_memory(Reg reg) const {
  std::optional<SharedMemory> region;
  if (shm_sel_ <= UINT8_MAX) region = device_->shared_memory(static_cast<uint8_t>(shm_sel_));
  if (!region) return UINT32_MAX;  // §4.2.2: the length of a region that is not there is -1
  if (reg == Reg::ShmLenLow) return low(region->size);
  if (reg == Reg::ShmLenHigh) return high(region->size);
  return reg == Reg::ShmBaseLow ? low(region->address) : high(region->address);
}

void TransportMmio::write(uint64_t offset, std::span<const std::byte> data) {
  if (offset >= kConfigOffset) return write_config(offset - kConfigOffset, data);
  if (!is_register_access(offset, data.size())) {
    return refuse("register write that is not 4 bytes wide and aligned");
  }
  const auto value = static_cast<uint32_t>(to_register_value(data));
  switch (static_cast<Reg>(offset)) {
    case Reg::Status:
      return sequencer_.run_and_wait([this, value](Done done) { write_status(value, std::move(done)); });
    case Reg::QueueReady:
      return sequencer_.run_and_wait([this, value](Done done) { write_queue_ready(value, std::move(done)); });
    case Reg::QueueNotify:
      return notify_queue(value);
    case Reg::InterruptAck:
      interrupt_status_.fetch_and(~value);
      return;
    default: {
      MutexLock lock(mutex_);
      if (device_ != nullptr) write_register(static_cast<Reg>(offset), value);
    }
  }
}

void TransportMmio::write_register(Reg reg, uint32_t value) {
  switch (reg) {
    case Reg::DeviceFeaturesSel:
      device_features_sel_ = value;
      return;
    case Reg::DriverFeaturesSel:
      driver_features_sel_ = value;
      return;
    case Reg::DriverFeatures:
      return write_driver_features(value);
    case Reg::QueueSel:
      queue_sel_ = value;
      return;
    case Reg::ShmSel:
      shm_sel_ = value;
      return;
    case Reg::QueueNum:
    case Reg::QueueDescLow:
    case Reg::QueueDescHigh:
    case Reg::QueueDriverLow:
    case Reg::QueueDriverHigh:
    case Reg::QueueDeviceLow:
    case Reg::QueueDeviceHigh:
      return write_queue_register(reg, value);
    default:
      return refuse("write to a register that is read-only or not there");
  }
}

void TransportMmio::write_driver_features(uint32_t value) {
  if (has_status(kStatusFeaturesOk)) return refuse("features after FEATURES_OK");
  if (driver_features_sel_ == 0) return set_low(driver_features_, value);
  if (driver_features_sel_ == 1) return set_high(driver_features_, value);
  if (value != 0) refuse("features beyond bit 63");
}

// §3.1.1: queues are set up between FEATURES_OK and DRIVER_OK.
bool TransportMmio::queue_setup_allowed() const {
  return has_status(kStatusFeaturesOk) && !has_status(kStatusDriverOk);
}

TransportMmio::QueueSlot* TransportMmio::selected_queue() {
  if (queue_sel_ < queues_.size()) return &queues_[queue_sel_];
  refuse("write to a queue that is not there");
  return nullptr;
}

void TransportMmio::write_queue_register(Reg reg, uint32_t value) {
  QueueSlot* slot = selected_queue();
  if (slot == nullptr) return;
  if (slot->ready || !queue_setup_allowed()) return refuse("queue setup at the wrong time");
  QueueConfig& config = slot->config;
  switch (reg) {
    case Reg::QueueNum:
      config.size = value;
      return;
    case Reg::QueueDescLow:
      return set_low(config.desc, value);
    case Reg::QueueDescHigh:
      return set_high(config.desc, value);
    case Reg::QueueDriverLow:
      return set_low(config.driver, value);
    case Reg::QueueDriverHigh:
      return set_high(config.driver, value);
    case Reg::QueueDeviceLow:
      return set_low(config.device, value);
    default:
      return set_high(config.device, value);
  }
}

void TransportMmio::write_config(uint64_t offset, std::span<const std::byte> data) {
  {
    MutexLock lock(mutex_);
    if (!is_config_access(data.size())) return refuse("configuration write of an odd width");
    if (device_ == nullptr) return;
    if (!device_->config().write(offset, data)) return refuse("write to read-only configuration");
  }
  sequencer_.run_and_wait([this, offset, bytes = data.size()](Done done) {
    Device* there = device();
    if (there != nullptr) there->config_written(offset, bytes);
    done();
  });
}

void TransportMmio::notify_queue(uint32_t index) {
  Doorbell* doorbell = nullptr;
  {
    MutexLock lock(mutex_);
    if (index < queues_.size() && queues_[index].ready && has_status(kStatusDriverOk)) doorbell = doorbells_[index];
    if (doorbell == nullptr) return refuse("notification of a queue that does not run");
  }
  doorbell->ring();
}

// --- Status ---

bool TransportMmio::status_step_allowed(uint32_t now, uint32_t added) {
  const uint32_t after = now | added;
  const auto refused = [this](std::string_view what) {
    refuse(what);
    return false;
  };
  if ((now & kStatusFailed) != 0) return refused("status after FAILED, without a reset");
  if ((added & ~kDriverStatusBits) != 0) return refused("status with unknown bits");
  if ((after & kStatusDriver) != 0 && (after & kStatusAcknowledge) == 0) return refused("DRIVER before ACKNOWLEDGE");
  if ((after & kStatusFeaturesOk) != 0 && (after & kStatusDriver) == 0) return refused("FEATURES_OK before DRIVER");
  // The driver has to read FEATURES_OK back first (§3.1.1 step 6).
  if ((added & kStatusDriverOk) != 0 && (now & kStatusFeaturesOk) == 0) return refused("DRIVER_OK before FEATURES_OK");
  return true;
}

bool TransportMmio::features_acceptable() const {
  return (driver_features_ & ~offered_features()) == 0 && (driver_features_ & kFeatureVersion1) != 0 &&
         device_->accepts(driver_features_);
}

void TransportMmio::write_status(uint32_t value, Done done) {
  if (value == 0) return reset_device(std::move(done));
  bool start = false;
  {
    MutexLock lock(mutex_);
    const uint32_t now = status_.load();
    uint32_t added = value & ~now & ~kStatusNeedsReset;
    // §2.1.1: the driver must not clear a bit. (No driver has found an empty slot.)
    if (device_ == nullptr || (now & ~value & ~kStatusNeedsReset) != 0) {
      refuse("status that goes back without a reset");
      added = 0;
    } else if (!status_step_allowed(now, added)) {
      added = 0;
    }
    if ((added & kStatusFeaturesOk) != 0 && !features_acceptable()) {
      refuse("features that are not offered or do not fit together");
      added &= ~kStatusFeaturesOk;  // §3.1.1 step 6: it reads that back
    }
    start = (added & kStatusDriverOk) != 0;
    status_.fetch_or(added);
  }
  if (start) start_device();
  done();
}

void TransportMmio::start_device() {
  uint64_t features = 0;
  {
    MutexLock lock(mutex_);
    started_ = true;
    features = driver_features_;
  }
  device()->start(features);
  start_ready_queues();
}

void TransportMmio::start_ready_queues() {
  Device* there = device();
  for (size_t index = 0;; ++index) {
    std::optional<Queue> queue;
    {
      MutexLock lock(mutex_);
      if (index >= queues_.size()) return;
      QueueSlot& slot = queues_[index];
      if (!slot.queue || slot.queue->broken()) continue;
      queue = std::exchange(slot.queue, std::nullopt);
      slot.running = true;
    }
    const Result<> started = there->start_queue(index, wire(index, *std::move(queue)));
    if (started) continue;
    log_guest(LogLevel::Error, "{}: queue {} does not start: {}", name_, index, started.error().text());
    {
      MutexLock lock(mutex_);
      queues_[index].running = false;
      queues_[index].broken = true;
    }
    needs_reset();
  }
}

QueueWiring TransportMmio::wire(size_t index, Queue queue) {
  return {.queue = std::move(queue),
          .interrupt = used_buffer_interrupt_,
          .doorbell = *doorbells_[index],
          .loop = *loops_[std::min(index, loops_.size() - 1)]};
}

void TransportMmio::reset_device(Done done) {
  bool reset = false;
  {
    MutexLock lock(mutex_);
    reset = started_;
  }
  auto finish = [this, done = std::move(done)]() mutable {
    {
      MutexLock lock(mutex_);
      clear_registers();
    }
    done();
  };
  if (reset) return device()->reset(std::move(finish));
  finish();
}

void TransportMmio::clear_registers() {
  status_.store(0);
  interrupt_status_.store(0);
  raised_by_others_.store(false);
  driver_features_ = 0;
  device_features_sel_ = driver_features_sel_ = queue_sel_ = shm_sel_ = 0;
  started_ = false;
  queues_.clear();
  if (device_ != nullptr) queues_.resize(device_->queue_sizes().size());
}

// --- Queues ---

void TransportMmio::write_queue_ready(uint32_t value, Done done) {
  size_t stop = SIZE_MAX;
  {
    MutexLock lock(mutex_);
    QueueSlot* slot = device_ == nullptr ? nullptr : selected_queue();
    if (slot == nullptr) {
      // An empty slot, or refused already.
    } else if (value > 1) {
      refuse("QueueReady that is neither 0 nor 1");
    } else if (value == 1) {
      if (!slot->ready) make_queue_ready(*slot);
    } else if (slot->running) {
      stop = queue_sel_;
    } else {
      *slot = {};
    }
  }
  if (stop == SIZE_MAX) return done();
  // §4.2.2.2: the driver stops one queue. What it reads back afterwards is 0.
  device()->stop_queue(stop, [this, stop, done = std::move(done)](const Queue& /*queue*/) mutable {
    {
      MutexLock lock(mutex_);
      queues_[stop] = {};
    }
    done();
  });
}

void TransportMmio::make_queue_ready(QueueSlot& slot) {
  if (!queue_setup_allowed()) return refuse("QueueReady at the wrong time");
  if (slot.config.size > device_->queue_sizes()[queue_sel_]) return refuse("queue longer than its maximum");
  slot.config = slot.config.with_features(driver_features_);
  GuestResult<Queue> made = Queue::create(memory_.snapshot(), slot.config);
  if (!made) return refuse(to_string(made.error()));
  made->follow(memory_);
  watch_queue(*made);
  slot.queue = *std::move(made);
  slot.ready = true;
}

void TransportMmio::watch_queue(Queue& queue) {
  queue.on_broken([this](GuestFault fault) {
    refuse(to_string(fault));
    needs_reset();
  });
}

// --- Interrupts ---

int TransportMmio::UsedBufferInterrupt::fd() const {
  owner_.raised_by_others_.store(true);
  return owner_.line_.fd();
}

void TransportMmio::interrupt_driver(uint32_t cause) {
  interrupt_status_.fetch_or(cause);
  line_.raise();
}

void TransportMmio::config_changed() {
  if (has_status(kStatusDriverOk)) interrupt_driver(kInterruptConfigChange);
}

// §2.1.2: with DRIVER_OK, a configuration change notification goes with it.
void TransportMmio::needs_reset() {
  status_.fetch_or(kStatusNeedsReset);
  config_changed();
}

void TransportMmio::refuse(std::string_view what) {
  guest_faults_.fetch_add(1, std::memory_order_relaxed);
  log_guest(LogLevel::Warn, "{}: refused: {}", name_, what);
}

}  // namespace strato::virtio
