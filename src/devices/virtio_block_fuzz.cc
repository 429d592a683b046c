// A driver that submits requests, mostly valid, before a disk that is slow, fails and changes its size; the driver
// stops, resets, saves and restores meanwhile. Whatever happens: what was popped comes back, no request is lost or
// answered twice, and after a reset a good request is served.
#include <fuzzer/FuzzedDataProvider.h>

#include <cerrno>
#include <memory>
#include <optional>

#include "base/assert.h"
#include "base/log.h"
#include "devices/virtio_block.h"
#include "state/format.h"
#include "testing/fake_driver.h"
#include "testing/memory_disk.h"
#include "testing/queue_host.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;

constexpr uint64_t kDiskBytes = 64 * 1024;

// Made once: descriptors and mappings cost more than a run.
struct World : strato::testing::QueueHost {
  World() { set_log_level(LogLevel::Error); }
};

class Session {
 public:
  Session(World& world, FuzzedDataProvider& input)
      : world_(world),
        input_(input),
        packed_(input.ConsumeBool()),
        driver_(world.ram, {.size = 32, .packed = packed_, .event_idx = input.ConsumeBool()}),
        disk_(std::make_shared<MemoryDisk>(
            kDiskBytes, DiskLimits{.read_only = input.ConsumeIntegral<uint8_t>() < 16, .can_discard = true})) {
    if (input.ConsumeBool()) {
      limiter_ = std::make_shared<IoLimiter>(
          IoLimits{.bytes = bucket_of_rate(input.ConsumeIntegralInRange<uint64_t>(1, 100'000), 0),
                   .operations = bucket_of_rate(input.ConsumeIntegralInRange<uint64_t>(1, 1000), 0)},
          world.clock);
    }
    read_errors_ = any_policy();
    write_errors_ = any_policy();
    features_ = ~input.PickValueInArray<uint64_t>({0, kBlockFeatureFlush, kBlockFeatureConfigWce});
    make(std::nullopt);
    start(fresh_queue());
  }

  void run() {
    for (int step = 0; step < 100 && input_.remaining_bytes() != 0; ++step) act();
    reset();
    disk_->fail(DiskOp::Read, 0, 0, 0);
    STRATO_ASSERT(disk_->resize(kDiskBytes).has_value());
    if (limiter_ != nullptr) limiter_->set_limits({});
    driver_.reset();
    start(fresh_queue());
    driver_.chain().readable_obj(header(kBlockTypeIn, 0)).writable(513).submit();
    ring();
    STRATO_ASSERT(driver_.take_used().size() == 1 && driver_.outstanding() == 0);
    reset();
  }

 private:
  static BlockHeader header(uint32_t type, uint64_t sector) {
    return {.type = type, .reserved = uint32_t{0}, .sector = sector};
  }
  BlockErrorPolicy any_policy() {
    return input_.PickValueInArray({BlockErrorPolicy::Report, BlockErrorPolicy::Stop, BlockErrorPolicy::StopNoSpace});
  }
  void make(std::optional<BlockState> state) {
    block_ = std::make_unique<Block>(Block::Args{.name = "fuzz",
                                                 .disk = disk_,
                                                 .queue_size = 32,
                                                 .read_errors = read_errors_,
                                                 .write_errors = write_errors_,
                                                 .limiter = limiter_,
                                                 .on_stop = [](const BlockStop&) {}},
                                     state);
  }
  Queue fresh_queue() { return *Queue::create(world_.ram.memory(), driver_.config()); }
  void start(Queue queue) {
    block_->start((block_->features() | kFeatureVersion1) & features_);
    world_.start_queue(*block_, std::move(queue));
  }
  void turn() { world_.turn(); }
  void ring() { world_.ring(); }
  // The disk may be held: then it lets go in the middle of the operation.
  Queue stop() {
    std::optional<Queue> back;
    block_->stop_queue(0, [&back](Queue queue) { back = std::move(queue); });
    turn();
    disk_->release();
    turn();
    STRATO_ASSERT(back.has_value() && disk_->ports() == 0 && disk_->waiting() == 0);
    return *std::move(back);
  }
  void reset() {
    bool done = false;
    block_->reset([&done] { done = true; });
    turn();
    disk_->release();
    turn();
    STRATO_ASSERT(done && disk_->ports() == 0);
  }

  void submit() {
    if (driver_.free_slots() < 4) return;
    FakeDriver::Request request = driver_.chain();
    const uint64_t sector = input_.ConsumeIntegralInRange<uint64_t>(0, kDiskBytes / kBlockSectorBytes + 1);
    const auto length = input_.ConsumeIntegralInRange<uint32_t>(0, 8) * 512;
    switch (input_.ConsumeIntegralInRange<int>(0, 5)) {
      case 0:
        request.readable_obj(header(kBlockTypeIn, sector)).writable(length);
        break;
      case 1:
        request.readable_obj(header(kBlockTypeOut, sector)).readable(std::vector<std::byte>(length));
        break;
      case 2:
        request.readable_obj(header(kBlockTypeFlush, 0));
        break;
      case 3:
        request.readable_obj(header(kBlockTypeGetId, 0)).writable(20);
        break;
      case 4: {
        BlockSegment segments[3]{};
        for (BlockSegment& segment : segments) {
          segment.sector = input_.ConsumeIntegralInRange<uint64_t>(0, kDiskBytes / kBlockSectorBytes);
          segment.num_sectors = input_.ConsumeIntegralInRange<uint32_t>(0, 4);
        }
        request.readable_obj(header(input_.ConsumeBool() ? kBlockTypeDiscard : kBlockTypeWriteZeroes, 0))
            .readable(std::as_bytes(std::span(segments)));
        break;
      }
      default:
        request.raw(input_.ConsumeIntegral<uint64_t>(), input_.ConsumeIntegral<uint32_t>(), 0);
    }
    if (input_.ConsumeIntegral<uint8_t>() < 0xf0) request.writable(1);
    if (input_.ConsumeBool()) request.indirect();
    request.submit();
  }

  void fail() {
    constexpr DiskOp kOps[] = {DiskOp::Read, DiskOp::Write, DiskOp::Flush, DiskOp::Discard, DiskOp::WriteZeroes};
    const DiskOp op = input_.PickValueInArray(kOps);
    const int os_errno = input_.PickValueInArray({EIO, ENOSPC, EOPNOTSUPP});
    disk_->fail(op, os_errno, input_.ConsumeIntegralInRange<uint32_t>(0, 3),
                input_.ConsumeIntegralInRange<uint32_t>(0, 3));
  }

  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 11)) {
      case 0:
      case 1:
      case 2:
        return submit();
      case 3:
        return ring();
      case 4:
        world_.clock.advance_ns(input_.ConsumeIntegral<uint32_t>());
        return turn();
      case 5:
        driver_.take_used();  // which asserts that each was outstanding, for packed rings
        return;
      case 6:
        disk_->hold();
        return;
      case 7:
        if (disk_->waiting() > 0) disk_->finish(input_.ConsumeIntegralInRange<size_t>(0, disk_->waiting() - 1));
        return turn();
      case 8:
        return fail();
      case 9: {
        STRATO_ASSERT(disk_->resize(input_.ConsumeIntegralInRange<uint64_t>(0, 2 * kDiskBytes)).has_value());
        block_->capacity_changed();
        const auto writeback = input_.ConsumeIntegral<uint8_t>();
        STRATO_ASSERT(block_->config().write(32, std::as_bytes(std::span(&writeback, 1))));
        block_->config_written(32, 1);
        return turn();
      }
      case 10: {  // pause, save, restore
        Queue queue = stop();
        const Result<std::vector<std::byte>> saved = block_->save();
        STRATO_ASSERT(saved.has_value());
        if (queue.broken()) {
          driver_.reset();
          return start(fresh_queue());
        }
        GuestResult<Queue> moved = Queue::create(world_.ram.memory(), queue.config(), queue.progress());
        STRATO_ASSERT(moved.has_value());
        make(*state::from_bytes<BlockState>(*saved));
        STRATO_ASSERT(*block_->save() == *saved);
        block_->resume();
        return start(*std::move(moved));
      }
      default:
        reset();
        driver_.reset();
        return start(fresh_queue());
    }
  }

  World& world_;
  FuzzedDataProvider& input_;
  const bool packed_;
  FakeDriver driver_;
  std::shared_ptr<MemoryDisk> disk_;
  std::shared_ptr<IoLimiter> limiter_;
  BlockErrorPolicy read_errors_ = BlockErrorPolicy::Report;
  BlockErrorPolicy write_errors_ = BlockErrorPolicy::Report;
  uint64_t features_ = 0;
  std::unique_ptr<Block> block_;
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static strato::virtio::World world;
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(world, input).run();
  return 0;
}
