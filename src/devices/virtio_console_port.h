// One port of a virtio-console: bytes between its two queues and a chardev.
// Spec:    virtio 1.2 §5.3.6.
// Threads: two loops meet here, since a chardev belongs to the control loop, which must not touch guest memory. The
//          ChardevHandler's calls come on the chardev's loop, input and wishes cross under mutex_ and by `wake`; all
//          that touches a queue is on the loop of the queues, which also writes to the chardev.
// Limits:  2 * kInputBytes of input wait here, the rest with its sender; kRoundBytes in each direction before others on
//          the loop have their turn. Output of a virtserialport waits in the driver's queue while the reader is slow.
//          That of a console is dropped then: Linux's hvc driver spins, with a lock held, until its buffer comes back.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "chardev/chardev.h"
#include "devices/virtio_console_state.h"
#include "virtio/queue_worker.h"

namespace strato::virtio {

class ConsolePort final : public ChardevHandler {
 public:
  static constexpr size_t kInputBytes = 4096;
  static constexpr uint64_t kRoundBytes = 64 * 1024;

  struct Args {
    std::string id;  // for messages
    uint32_t number = 0;
    bool is_console = false;
    std::string name{};  // that the guest sees; may be empty
    Chardev& chardev;    // outlives the port
  };
  struct Callbacks {
    std::move_only_function<void()> wake;       // look_again() is due; on the chardev's loop
    std::move_only_function<void()> on_resize;  // size() has changed; on the chardev's loop
  };
  // Made and destroyed on the chardev's loop.
  ConsolePort(Args args, Callbacks callbacks);
  ~ConsolePort() override;

  const Args& args() const { return args_; }
  // Whether somebody on the host uses the port (a console is always in use), and how often somebody has come, so that
  // one who left at once was there all the same (0 for a console). Any thread.
  struct HostSide {
    bool open = false;
    uint32_t openings = 0;
  };
  HostSide host_side() const;
  std::optional<TerminalSize> size() const;

  // No input is taken between the two. Any thread.
  void pause();
  void resume();
  // Paused, and without queues.
  void save(ConsolePortState& state) const;
  Result<> restore(const ConsolePortState& state);

  // --- On the loop of the queues. Null workers: the queue is not there. ---
  void set_receive_queue(QueueWorker* worker) { receive_ = worker; }
  void set_transmit_queue(QueueWorker* worker);
  void serve_receive();
  void serve_transmit();
  // The chardev's side has changed.
  void look_again();
  // While closed the driver gets no input.
  void set_guest_open(bool open) { guest_open_ = open; }
  bool guest_open() const { return guest_open_; }
  // The driver has reset the device. Input that it did not get is there for the next.
  void reset();

  // --- ChardevHandler ---
  size_t input_room() override;
  void on_input(std::span<const std::byte> data) override;
  void on_writable() override;
  void on_connection(bool connected) override;
  void on_resize(TerminalSize size) override;

 private:
  bool has_input();
  uint64_t send(Chain chain, uint64_t budget);
  size_t write(std::span<const std::byte> data);

  const Args args_;
  Callbacks callbacks_;

  // On the loop of the queues.
  QueueWorker* receive_ = nullptr;
  QueueWorker* transmit_ = nullptr;
  bool guest_open_ = false;
  bool blocked_ = false;          // the chardev takes no more before on_writable()
  uint64_t sent_bytes_ = 0;       // of the chain that the transmit queue gives out next
  std::vector<std::byte> taken_;  // input on its way to the driver, from taken_head_ on
  size_t taken_head_ = 0;

  mutable Mutex mutex_;
  std::vector<std::byte> input_ STRATO_GUARDED_BY(mutex_);  // at most kInputBytes
  bool input_stopped_ STRATO_GUARDED_BY(mutex_) = false;    // we told the chardev that there is no room
  bool retry_output_ STRATO_GUARDED_BY(mutex_) = false;
  bool paused_ STRATO_GUARDED_BY(mutex_) = false;
  bool connected_ STRATO_GUARDED_BY(mutex_) = false;
  uint32_t openings_ STRATO_GUARDED_BY(mutex_) = 0;
  std::optional<TerminalSize> size_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato::virtio
