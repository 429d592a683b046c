#include "devices/virtio_block.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "state/format.h"

namespace strato::virtio {
namespace {

constexpr size_t kWritebackOffset = offsetof(BlockConfigSpace, writeback);

std::array<std::byte, kBlockIdBytes> padded(const std::string& serial) {
  STRATO_ASSERT(serial.size() <= kBlockIdBytes);
  std::array<std::byte, kBlockIdBytes> out{};
  std::memcpy(out.data(), serial.data(), serial.size());
  return out;
}

uint64_t whole_blocks_in_sectors(const Disk& disk, uint32_t block_bytes) {
  return disk.capacity_bytes() / block_bytes * (block_bytes / kBlockSectorBytes);
}

}  // namespace

Block::Block(Args args, const std::optional<BlockState>& state)
    : disk_(std::move(args.disk)),
      write_cache_(args.write_cache),
      queue_sizes_(args.queues, args.queue_size),
      features_(offered_features(args)),
      config_(initial_config(args)),
      shared_{.name = std::move(args.name),
              .disk = *disk_,
              .serial = padded(args.serial),
              .block_bytes = args.logical_block_bytes,
              .read_errors = args.read_errors,
              .write_errors = args.write_errors,
              .limiter = std::move(args.limiter),
              .on_stop = std::move(args.on_stop)},
      workers_(args.queues) {
  STRATO_ASSERT(args.queues >= 1 && args.queues <= kMaxQueues);
  config_.make_writable(kWritebackOffset, 1);
  if (!state) return;
  config_.store<uint8_t>(kWritebackOffset, state->writeback == 0 ? 0 : 1);
  config_.store(0, le64(state->capacity_sectors));
  if (shared_.limiter != nullptr) {
    shared_.limiter->set_tokens({.bytes = state->limiter_bytes, .operations = state->limiter_operations});
  }
}

Block::~Block() = default;

uint64_t Block::disk_sectors() const {
  return whole_blocks_in_sectors(*disk_, shared_.block_bytes);
}

// --- what the driver is told

uint64_t Block::offered_features(const Args& args) const {
  const DiskLimits& limits = disk_->limits();
  uint64_t features = kRingFeatures | kBlockFeatureSegMax | kBlockFeatureBlockSize | kBlockFeatureTopology |
                      kBlockFeatureFlush | kBlockFeatureConfigWce;
  if (args.queues > 1) features |= kBlockFeatureMultiQueue;
  if (limits.read_only) return features | kBlockFeatureReadOnly;
  features |= kBlockFeatureWriteZeroes;
  if (limits.can_discard) features |= kBlockFeatureDiscard;
  return features;
}

BlockConfigSpace Block::initial_config(const Args& args) const {
  const DiskLimits& limits = disk_->limits();
  const uint32_t logical = args.logical_block_bytes;
  const uint32_t physical =
      std::max(logical, args.physical_block_bytes == 0 ? limits.block_bytes : args.physical_block_bytes);
  BlockConfigSpace config{};
  config.capacity = whole_blocks_in_sectors(*disk_, logical);
  // §2.7.5.3.1: no chain longer than the queue, which holds header and status too.
  config.seg_max = args.queue_size - 2U;
  config.blk_size = logical;
  config.physical_block_exp = static_cast<uint8_t>(std::countr_zero(physical / logical));
  config.min_io_size = static_cast<uint16_t>(std::min<uint32_t>(physical / logical, UINT16_MAX));
  config.writeback = args.write_cache ? 1 : 0;
  config.num_queues = args.queues;
  config.max_discard_sectors = BlockRequest::kMaxRangeSectors;
  config.max_discard_seg = BlockRequest::kMaxRanges;
  config.discard_sector_alignment =
      static_cast<uint32_t>(std::max(logical, limits.discard_alignment) / kBlockSectorBytes);
  config.max_write_zeroes_sectors = BlockRequest::kMaxRangeSectors;
  config.max_write_zeroes_seg = BlockRequest::kMaxRanges;
  config.write_zeroes_may_unmap = limits.can_unmap_zeroes ? 1 : 0;
  return config;
}

void Block::capacity_changed() {
  config_.store(0, le64(disk_sectors()));
  config_.notify_driver();
}

// §5.2.5.2, §5.2.6.2: without FLUSH, or with a cache that writes through, a write is stable before its status.
void Block::apply_cache_mode() {
  const bool chosen = (shared_.features & kBlockFeatureConfigWce) != 0;
  const bool writeback = chosen ? config_.load<uint8_t>(kWritebackOffset) != 0 : write_cache_;
  shared_.durable_writes = (shared_.features & kBlockFeatureFlush) == 0 || !writeback;
}

void Block::config_written(size_t /*offset*/, size_t /*bytes*/) {
  config_.store<uint8_t>(kWritebackOffset, config_.load<uint8_t>(kWritebackOffset) == 0 ? 0 : 1);
  const bool was_durable = shared_.durable_writes;
  apply_cache_mode();
  if (was_durable || !shared_.durable_writes) return;
  // The driver sends no more flushes; what it wrote until now must not stay behind.
  for (const std::unique_ptr<BlockQueue>& worker : workers_) {
    if (worker != nullptr) return worker->flush_cache();
  }
}

// --- queues

void Block::start(uint64_t features) {
  shared_.features = features;
  apply_cache_mode();
}

Result<> Block::start_queue(size_t index, QueueWiring wiring) {
  STRATO_ASSERT(workers_[index] == nullptr);
  workers_[index] = std::make_unique<BlockQueue>(shared_, std::move(wiring));
  workers_[index]->start();
  return {};
}

void Block::stop_queue(size_t index, ReturnQueue done) {
  STRATO_ASSERT(workers_[index] != nullptr);
  workers_[index]->end(BlockQueue::Unfinished::Finish, [this, index, done = std::move(done)](Queue queue) mutable {
    workers_[index].reset();
    done(std::move(queue));
  });
}

void Block::reset(Done done) {
  struct Waiting {
    explicit Waiting(Done done_to_call) : done(std::move(done_to_call)) {}
    std::atomic<size_t> left{1};
    Done done;
  };
  auto waiting = std::make_shared<Waiting>([this, done = std::move(done)]() mutable {
    config_.store<uint8_t>(kWritebackOffset, write_cache_ ? 1 : 0);
    done();
  });
  const auto count_down = [waiting] {
    if (waiting->left.fetch_sub(1) == 1) waiting->done();
  };
  for (size_t index = 0; index < workers_.size(); ++index) {
    if (workers_[index] == nullptr) continue;
    ++waiting->left;
    workers_[index]->end(BlockQueue::Unfinished::Forget, [this, index, count_down](const Queue& /*queue*/) {
      workers_[index].reset();
      count_down();
    });
  }
  count_down();
}

// --- state

void Block::resume() {
  if (config_.load<le64>(0).get() != disk_sectors()) capacity_changed();
}

Result<std::vector<std::byte>> Block::save() const {
  BlockState state{.writeback = config_.load<uint8_t>(kWritebackOffset),
                   .capacity_sectors = config_.load<le64>(0).get()};
  if (shared_.limiter != nullptr) {
    const IoLimiter::Tokens tokens = shared_.limiter->tokens();
    state.limiter_bytes = tokens.bytes;
    state.limiter_operations = tokens.operations;
  }
  return state::to_bytes(state);
}

}  // namespace strato::virtio
