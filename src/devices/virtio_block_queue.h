// One queue of virtio-blk at work: from its chains to the disk and back.
// Threads: BlockShared any; the queue, its port, slots and timer belong to the loop that serves the queue. start(),
//          end() and flush_cache() post there.
// Limits:  as many requests at once as the queue has elements; one round of the loop takes at most as many chains.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/disk.h"
#include "devices/io_limiter.h"
#include "devices/virtio_block_request.h"
#include "event/lifetime.h"
#include "event/timer.h"
#include "virtio/device.h"

namespace strato::virtio {

// What becomes of a request that the disk failed.
enum class BlockErrorPolicy : uint8_t {
  Report,       // the guest gets an error
  Stop,         // the guest is stopped, and the request is carried out again when it goes on
  StopNoSpace,  // Stop for ENOSPC, else Report
};

struct BlockStop {
  std::string device;
  bool read = false;
  int os_errno = 0;
};

// What the queues of a device have in common.
struct BlockShared {
  const std::string name;  // for messages: the id that the user gave
  Disk& disk;
  const std::array<std::byte, kBlockIdBytes> serial;
  const uint32_t block_bytes;
  const BlockErrorPolicy read_errors;
  const BlockErrorPolicy write_errors;
  const std::shared_ptr<IoLimiter> limiter;  // null: none
  // A request waits for the guest to be stopped and to go on: the queues that met an error take no new ones. Any
  // thread.
  const std::function<void(const BlockStop&)> on_stop;

  // The driver's choice; changes while no queue is served.
  uint64_t features = 0;
  // Whether a write is to be on stable storage before its status.
  std::atomic<bool> durable_writes{false};
  // For tests and statistics.
  std::atomic<uint64_t> refused_requests{0};
  std::atomic<uint64_t> failed_requests{0};
};

class BlockQueue final : private DiskClient, private LoopHook {
 public:
  BlockQueue(BlockShared& shared, QueueWiring wiring) : shared_(shared), wiring_(std::move(wiring)) {}
  // On the loop; nothing is in flight. Inside the `done` of end(), or never started.
  ~BlockQueue() override;

  void start();

  enum class Unfinished : uint8_t {
    Finish,  // what is in flight ends as ever
    Forget,  // the driver hears of nothing any more
  };
  // The queue once nothing is in flight. `done` runs on the loop, as our last act, and destroys us.
  void end(Unfinished unfinished, ReturnQueue done);
  // What the disk has in its cache goes to stable storage, soon.
  void flush_cache();

 private:
  // One request on its way. Used again and again.
  struct Slot : DiskRequest {
    std::optional<Chain> chain{};  // none: a flush of our own
    BlockRequest request{};
    ChainWriter status{};  // the last byte
    uint64_t room = 0;     // bytes before it
    std::optional<DmaLease> lease{};
    size_t next_range = 0;
  };
  enum class Taken : uint8_t { Yes, Later };

  // LoopHook
  bool poll() override;
  void before_sleep() override;
  // DiskClient
  void finished(DiskRequest& request, int os_errno) override;

  void begin();
  void serve();
  Taken take(Chain chain);
  BlockRules rules() const;
  void carry_out(Slot& slot);
  void submit(Slot& slot);
  void submit_next_range(Slot& slot);
  void answer(Slot& slot, BlockStatus status, uint64_t data_written);
  void give_up(Slot& slot, int os_errno);
  bool is_to_stop(const Slot& slot, int os_errno) const;
  void refuse(Slot& slot, const BlockRefusal& refusal);
  Slot& acquire();
  void release(Slot& slot);
  void finish_end();

  BlockShared& shared_;
  QueueWiring wiring_;
  HookRegistration hook_;
  std::unique_ptr<DiskPort> port_;  // none: it could not be had, and the queue is not served
  Watch doorbell_;
  std::optional<Timer> retry_;  // armed: the limiter makes the driver wait
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
  uint32_t in_flight_ = 0;
  bool pushed_ = false;      // since the last publish()
  bool look_again_ = false;  // something finished, so that there may be room for more
  bool stopped_ = false;     // by an error; until the queue comes again
  Unfinished unfinished_ = Unfinished::Finish;
  ReturnQueue on_end_;  // set: we are ending
  Lifetime alive_;
};

}  // namespace strato::virtio
