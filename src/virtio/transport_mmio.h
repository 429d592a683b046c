// virtio-mmio: the registers by which a driver finds, negotiates with, and starts one virtio device; or an empty slot
// that a device comes into later.
// Spec:    virtio 1.2 §4.2, version 2. Missing: legacy interface (version 1), QueueReset (RING_RESET is not offered).
// Threads: registers on any vCPU thread, under mutex_. Whatever asks the device to do something runs in sequencer_ with
//          no lock held: a vCPU that resets waits there until the device's workers are quiet. Component, attach() and
//          detach() on the control loop, which never waits. Interrupts and faults of queues: any thread, atomics.
// Limits:  the queues that doorbells were given for.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/component.h"
#include "bus/io_bus.h"
#include "memory/memory_map.h"
#include "virtio/device.h"
#include "virtio/queue.h"
#include "virtio/sequencer.h"
#include "virtio/transport_mmio_state.h"

namespace strato::virtio {

class TransportMmio final : public IoDevice, public Component {
 public:
  static constexpr uint64_t kWindowBytes = 0x200;
  // Where the driver writes a queue's number to notify it: what an ioeventfd matches, 4 bytes wide.
  static constexpr uint64_t kQueueNotifyOffset = 0x50;

  // All of it outlives the transport.
  struct Args {
    std::string name;  // of the component: "virtio_mmio0"
    const MemoryMap& memory;
    Interrupt& interrupt;              // the one line; edge
    std::vector<Doorbell*> doorbells;  // one for each queue of the largest device that may come
  };
  struct Plug {
    std::unique_ptr<Device> device;
    std::vector<EventLoop*> loops;   // that serve the queues, by index; the last one serves all that follow
    uint64_t withheld_features = 0;  // that the device has and its user does not want
  };

  // A state is untrusted: refused when it does not fit to the device or to the memory. The transport is then paused
  // and begins with resume().
  static Result<std::unique_ptr<TransportMmio>> create(Args args, std::optional<Plug> plug,
                                                       const std::optional<TransportMmioState>& state);
  // The device's workers are quiet: after a detach(), a pause or a reset.
  ~TransportMmio() override;

  // An empty slot comes alive, and the driver gets a configuration change interrupt.
  Result<> attach(Plug plug);
  // Resets the device and gives it back; the slot is empty. Null when it was.
  void detach(std::move_only_function<void(std::unique_ptr<Device>)> done);
  // Another device takes the place of the one that is there, under a driver that goes on: rings, features and requests
  // that nobody has finished stay, and the driver gets a configuration change interrupt. `done` gets the old device,
  // reset; or an error, and nothing has changed: the new one is of another type, or has not all queues and features
  // that the driver uses.
  void replace(Plug plug, std::move_only_function<void(Result<std::unique_ptr<Device>>)> done);

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

  std::string_view component_name() const override { return name_; }
  void reset(Done done) override;
  void pause(Done done) override;
  void resume() override;
  Result<> prepare_save() override;
  Result<std::vector<std::byte>> save() const override;
  TransportMmioState state() const;  // paused; without the device's part

  // What the driver did that the specification forbids: refused writes and broken queues.
  uint64_t guest_faults() const { return guest_faults_.load(std::memory_order_relaxed); }

 private:
  enum class Reg : uint64_t;
  struct QueueSlot {
    QueueConfig config{};
    bool ready = false;
    bool broken = false;           // came broken from a saved state: it has no Queue
    bool running = false;          // its Queue is with the device
    std::optional<Queue> queue{};  // ready and not running
  };
  // The interrupt of all queues: bit 0 of InterruptStatus, and the line.
  class UsedBufferInterrupt final : public Interrupt {
   public:
    explicit UsedBufferInterrupt(TransportMmio& owner) : owner_(owner) {}
    void raise() override { owner_.interrupt_driver(kInterruptUsedBuffer); }
    // Who takes it raises the line without us: from then on bit 0 always reads as 1, else the driver would not look at
    // its queues.
    int fd() const override;
    void mask() override { owner_.line_.mask(); }
    void unmask() override { owner_.line_.unmask(); }
    bool pending() const override { return owner_.line_.pending(); }

   private:
    TransportMmio& owner_;
  };

  explicit TransportMmio(Args args);
  Result<> restore(const TransportMmioState& state) STRATO_EXCLUDES(mutex_);
  Result<> restore_queue(size_t index, const MmioQueueState& state) STRATO_REQUIRES(mutex_);
  Result<> check_saved_status(const TransportMmioState& state) const STRATO_REQUIRES(mutex_);
  Result<> put_in(Plug plug) STRATO_EXCLUDES(mutex_);
  Result<> check_replacement(const Plug& plug) const STRATO_EXCLUDES(mutex_);
  std::unique_ptr<Device> exchange_device(Plug plug) STRATO_EXCLUDES(mutex_);
  void interrupt_driver(uint32_t cause);
  void config_changed();
  void needs_reset();
  void refuse(std::string_view what);

  uint32_t read_register(Reg reg) const STRATO_REQUIRES(mutex_);
  uint32_t read_shared_memory(Reg reg) const STRATO_REQUIRES(mutex_);
  void write_register(Reg reg, uint32_t value) STRATO_REQUIRES(mutex_);
  void write_queue_register(Reg reg, uint32_t value) STRATO_REQUIRES(mutex_);
  void write_driver_features(uint32_t value) STRATO_REQUIRES(mutex_);
  void write_config(uint64_t offset, std::span<const std::byte> data) STRATO_EXCLUDES(mutex_);
  void notify_queue(uint32_t index) STRATO_EXCLUDES(mutex_);

  // Operations of the sequencer.
  void write_status(uint32_t value, Done done) STRATO_EXCLUDES(mutex_);
  void write_queue_ready(uint32_t value, Done done) STRATO_EXCLUDES(mutex_);
  void reset_device(Done done) STRATO_EXCLUDES(mutex_);
  void stop_all_queues(Done done) STRATO_EXCLUDES(mutex_);
  void start_device() STRATO_EXCLUDES(mutex_);
  void start_ready_queues() STRATO_EXCLUDES(mutex_);

  bool status_step_allowed(uint32_t now, uint32_t added) STRATO_REQUIRES(mutex_);
  bool features_acceptable() const STRATO_REQUIRES(mutex_);
  uint64_t offered_features() const STRATO_REQUIRES(mutex_) {
    return (device_->features() & ~withheld_features_) | kFeatureVersion1;
  }
  QueueSlot* selected_queue() STRATO_REQUIRES(mutex_);
  bool queue_setup_allowed() const;
  void make_queue_ready(QueueSlot& slot) STRATO_REQUIRES(mutex_);
  void watch_queue(Queue& queue);
  void clear_registers() STRATO_REQUIRES(mutex_);
  QueueWiring wire(size_t index, Queue queue);
  Device* device() const STRATO_EXCLUDES(mutex_);
  bool has_status(uint32_t bits) const { return (status_.load(std::memory_order_acquire) & bits) == bits; }

  const std::string name_;
  const MemoryMap& memory_;
  Interrupt& line_;
  const std::vector<Doorbell*> doorbells_;
  UsedBufferInterrupt used_buffer_interrupt_{*this};

  std::atomic<uint32_t> status_{0};  // written under mutex_, but for NEEDS_RESET
  std::atomic<uint32_t> interrupt_status_{0};
  std::atomic<bool> raised_by_others_{false};
  std::atomic<uint64_t> guest_faults_{0};

  mutable Mutex mutex_;
  // Changes within an operation of sequencer_ or while there is none, so that an operation may use it without mutex_.
  std::unique_ptr<Device> device_ STRATO_GUARDED_BY(mutex_);
  std::vector<EventLoop*> loops_;
  uint64_t withheld_features_ STRATO_GUARDED_BY(mutex_) = 0;
  std::vector<QueueSlot> queues_ STRATO_GUARDED_BY(mutex_);
  uint64_t driver_features_ STRATO_GUARDED_BY(mutex_) = 0;
  uint32_t device_features_sel_ STRATO_GUARDED_BY(mutex_) = 0;
  uint32_t driver_features_sel_ STRATO_GUARDED_BY(mutex_) = 0;
  uint32_t queue_sel_ STRATO_GUARDED_BY(mutex_) = 0;
  uint32_t shm_sel_ STRATO_GUARDED_BY(mutex_) = 0;
  bool started_ STRATO_GUARDED_BY(mutex_) = false;  // start() was called, and reset() not since
  bool paused_ STRATO_GUARDED_BY(mutex_) = false;

  Sequencer sequencer_;
};

}  // namespace strato::virtio
