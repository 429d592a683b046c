// virtio-console: consoles and serial ports of a guest, each on a chardev of the host.
// Spec:    virtio 1.2 §5.3. Missing: removing ports.
// Threads: the queues, and what the driver said and was told, belong to the loop that serves the queues, one for all of
//          them. Chardevs live on the control loop, where the device is made, saved and destroyed; the ports
//          (virtio_console_port.h) join the two. See device.h for the rest.
// Limits:  kMaxConsolePorts ports. What a driver is still to be told is a few bits of each port, not a queue of
//          messages: a driver that gives no buffer for them costs nothing. A message that does not fit into the buffer
//          that is there for it is lost.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "devices/virtio_console_control.h"
#include "devices/virtio_console_port.h"
#include "devices/virtio_console_state.h"
#include "event/lifetime.h"
#include "virtio/device.h"
#include "virtio/queue_worker.h"

namespace strato::virtio {

// §5.3.3
inline constexpr uint64_t kConsoleFeatureSize = 1 << 0;
inline constexpr uint64_t kConsoleFeatureMultiport = 1 << 1;
inline constexpr uint64_t kConsoleFeatureEmergencyWrite = 1 << 2;

// §5.3.4
struct ConsoleConfig {
  le16 columns;
  le16 rows;
  le32 max_ports;
  le32 emergency_write;
};
static_assert(sizeof(ConsoleConfig) == 12);

class Console final : public Device {
 public:
  static constexpr uint16_t kPortQueueSize = 128;
  static constexpr uint16_t kControlQueueSize = 32;

  struct Args {
    std::string name;  // for messages: the id that the user gave
    uint32_t max_ports =
        1;  // 1 to kMaxConsolePorts. With 1, and that one there: no control queues, and it is a console
    std::vector<ConsolePort::Args> ports{};  // ascending numbers below max_ports
  };
  // The state is untrusted: refused when it is of other ports.
  static Result<std::unique_ptr<Console>> create(Args args, const std::optional<ConsoleState>& state);
  ~Console() override;

  DeviceType type() const override { return DeviceType::Console; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_sizes() const override { return queue_sizes_; }
  ConfigSpace& config() override { return config_; }
  void config_written(size_t offset, size_t bytes) override;

  void start(uint64_t features) override;
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  void stop_queue(size_t index, ReturnQueue done) override;
  void reset(Done done) override;
  void pause(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;

 private:
  // A port, and what the driver is still to be told of it.
  struct PortSlot {
    std::unique_ptr<ConsolePort> port{};
    bool add_due = false;
    bool console_due = false;
    bool name_due = false;
    bool ready = false;  // the driver has said so
    bool told_open = false;
    uint32_t told_openings = 0;  // those of the port that the driver knows of, or was not there for
    TerminalSize told_size{};
  };

  explicit Console(Args args);
  Result<> restore(const ConsoleState& state);
  void clear();
  void show_size();
  void wake(uint32_t number);

  PortSlot* find_port(uint32_t number);
  void set_worker(size_t index, QueueWorker* worker);
  void begin(size_t index, QueueWiring wiring);
  void serve(size_t index);

  void serve_control();
  void handle(const DriverMessage& message);
  void tell_driver();
  bool tell_driver_of(PortSlot& slot);
  bool send(const PortSlot& slot, ConsoleEvent event, uint16_t value, std::span<const std::byte> rest = {});

  const std::string name_;
  const uint32_t max_ports_;
  const bool single_;  // port 0 and no other
  std::vector<uint16_t> queue_sizes_;
  ConfigSpace config_{ConsoleConfig{}};
  std::atomic<EventLoop*> loop_{nullptr};  // of the queues, once the first of them came
  std::atomic<bool> multiport_{false};     // negotiated

  // On loop_.
  std::vector<std::unique_ptr<QueueWorker>> workers_;  // by queue; null: not here
  std::vector<PortSlot> slots_;
  uint32_t port_mask_ = 0;  // bit n: port n exists. Constant
  bool device_ready_ = false;
  Lifetime alive_;
};

}  // namespace strato::virtio
