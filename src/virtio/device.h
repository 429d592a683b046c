#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "bus/component.h"
#include "bus/doorbell.h"
#include "bus/interrupt.h"
#include "event/event_loop.h"
#include "virtio/config_space.h"
#include "virtio/queue.h"
#include "virtio/spec.h"

namespace strato::virtio {

// A queue and what belongs to serving it. The references outlive the device.
struct QueueWiring {
  Queue queue;
  Interrupt& interrupt;  // to be raised when publish() says so
  Doorbell& doorbell;    // rung by the driver; may have been rung already, or be rung for nothing
  EventLoop& loop;       // that serves the queue
};

using ReturnQueue = std::move_only_function<void(Queue)>;

// §2.10: a range of guest physical addresses.
struct SharedMemory {
  uint64_t address = 0;
  uint64_t size = 0;
};

// What a transport (or machine) asks of a device. A device knows no transport, address, fd of an interrupt or
// hypervisor.
// Threads: config_written(), start() and all below it come one after the other, on any thread (vCPU, control, or the
// one that called a `done`), with no lock held; the device posts to its loops what belongs there. A `done` may be
// called at once, and on any thread. The other calls only tell what is fixed, and may come at any time, on any thread,
// under a lock of the transport.
class Device {
 public:
  virtual ~Device() = default;

  virtual DeviceType type() const = 0;
  // Offered to the driver, with those of kRingFeatures that the device's queues can do. The transport adds
  // kFeatureVersion1, and withholds what the user does not want. Constant while a driver is there.
  virtual uint64_t features() const = 0;
  // The longest that the driver may make each queue (it may choose less). Constant.
  virtual std::span<const uint16_t> queue_sizes() const = 0;
  virtual ConfigSpace& config() = 0;
  // The driver changed writable bytes of config().
  virtual void config_written(size_t /*offset*/, size_t /*bytes*/) {}
  // Whether the device can work with this subset of features() (§3.1.1 step 5).
  virtual bool accepts(uint64_t /*features*/) const { return true; }
  // §2.10. None: there is no region of this number.
  virtual std::optional<SharedMemory> shared_memory(uint8_t /*id*/) const { return std::nullopt; }

  // The driver is ready and these are the negotiated features; start_queue() follows for each queue that it set up.
  // Also after a restore.
  virtual void start(uint64_t features) = 0;
  // The queue moves in. The device looks at it at once, since its doorbell may have been rung before: after a pause or
  // a restore its unfinished chains come out of pop() again.
  virtual Result<> start_queue(size_t index, QueueWiring wiring) = 0;
  // Gives the queue back when its worker is quiet: chains are finished or abandoned, everything pushed is published.
  // Used for a pause as well.
  virtual void stop_queue(size_t index, ReturnQueue done) = 0;
  // Back to the state before start(): all chains abandoned, queues destroyed, and no byte of guest memory changes once
  // `done` is called.
  virtual void reset(Done done) = 0;

  // All queues were stopped. What else moves stands still until resume(): timers, connections.
  virtual void pause(Done done) { done(); }
  // Queues are started again after this.
  virtual void resume() {}
  // Paused. The device's own state (§8 of architecture.md), without queues. The constructor takes it back.
  virtual Result<std::vector<std::byte>> save() const = 0;
};

}  // namespace strato::virtio
