#include "devices/virtio_mem.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "base/log.h"
#include "state/format.h"

namespace strato::virtio {
namespace {

MemResponse response(MemAnswer answer) {
  return {.type = static_cast<uint16_t>(answer), .padding = {}, .state = 0};
}

}  // namespace

Result<std::unique_ptr<Mem>> Mem::create(Args args, const std::optional<MemState>& state) {
  std::unique_ptr<Mem> mem(new Mem(std::move(args)));
  if (state) STRATO_TRY(mem->restore(*state));
  return mem;
}

Mem::Mem(Args args)
    : name_(std::move(args.name)),
      memory_(args.memory),
      on_plugged_(std::move(args.on_plugged)),
      config_(MemConfig{.block_size = args.place.block_bytes,
                        .node_id = 0,
                        .padding = {},
                        .addr = args.place.address,
                        .region_size = args.place.region_bytes,
                        .usable_region_size = 0,
                        .plugged_size = 0,
                        .requested_size = args.requested_bytes}),
      requested_bytes_(args.requested_bytes),
      blocks_(args.place) {
  MutexLock lock(mutex_);
  set_usable(usable_with(args.requested_bytes));
}

Mem::~Mem() = default;

Result<> Mem::restore(const MemState& state) {
  const MemPlace& place = blocks_.place();
  if (state.address != place.address || state.block_bytes != place.block_bytes ||
      state.region_bytes != place.region_bytes) {
    return std::unexpected(Error::invalid(fmt::format(
        "saved with size={} and block-size={} at {:#x}, started with {} and {} at {:#x}", state.region_bytes,
        state.block_bytes, state.address, place.region_bytes, place.block_bytes, place.address)));
  }
  const Result<> requested = check_requested_size(place, state.requested_bytes);
  if (!requested || state.usable_bytes > place.region_bytes || !is_aligned(state.usable_bytes, place.block_bytes) ||
      !blocks_.restore(state.plugged, state.usable_bytes)) {
    return std::unexpected(Error::invalid("its saved state contradicts itself"));
  }
  for (const MemBlocks::Range run : blocks_.plugged_runs()) {
    const auto there = std::make_shared<bool>(false);
    memory_.open(blocks_.offset_of(run), blocks_.bytes_of(run), [there](bool opened) { *there = opened; });
    if (!*there) return std::unexpected(Error::invalid("its blocks are plugged, but their memory was not saved"));
  }
  plugged_bytes_ = blocks_.plugged_bytes();
  config_.store(offsetof(MemConfig, plugged_size), le64(blocks_.plugged_bytes()));
  config_.store(offsetof(MemConfig, requested_size), le64(state.requested_bytes));
  MutexLock lock(mutex_);
  requested_bytes_ = state.requested_bytes;
  set_usable(state.usable_bytes);
  return {};
}

// --- life cycle

Result<> Mem::start_queue(size_t /*index*/, QueueWiring wiring) {
  EventLoop& loop = wiring.loop;
  EventLoop* before = loop_.exchange(&loop);
  STRATO_ASSERT(before == nullptr || before == &loop);
  loop.post(alive_.token(), [this, wiring = std::move(wiring)]() mutable {
    STRATO_ASSERT(worker_ == nullptr);
    worker_ = std::make_unique<QueueWorker>(name_, std::move(wiring), [this] { serve(); });
    serve();
  });
  return {};
}

void Mem::stop_queue(size_t /*index*/, ReturnQueue done) {
  loop_.load()->post(alive_.token(), [this, done = std::move(done)]() mutable {
    forget_pending();
    Queue queue = worker_->take();
    worker_.reset();
    done(std::move(queue));
  });
}

void Mem::reset(Done done) {
  run_on(loop_, alive_.token(), [this, done = std::move(done)]() mutable {
    forget_pending();
    worker_.reset();
    done();
  });
}

// Its memory may come nevertheless, and is closed again then. A queue that lives on gives the request out once more.
void Mem::forget_pending() {
  if (!pending_) return;
  std::move(pending_->chain).abandon();
  pending_.reset();
}

Result<std::vector<std::byte>> Mem::save() const {
  const MemPlace& place = blocks_.place();
  MutexLock lock(mutex_);
  return state::to_bytes(MemState{.address = place.address,
                                  .block_bytes = place.block_bytes,
                                  .region_bytes = place.region_bytes,
                                  .requested_bytes = requested_bytes_,
                                  .usable_bytes = usable_bytes_,
                                  .plugged = blocks_.bytes()});
}

// --- what the host asks

uint64_t Mem::requested_bytes() const {
  MutexLock lock(mutex_);
  return requested_bytes_;
}

uint64_t Mem::usable_bytes() const {
  MutexLock lock(mutex_);
  return usable_bytes_;
}

uint64_t Mem::usable_with(uint64_t requested) const {
  if (requested == 0) return 0;
  const MemPlace& place = blocks_.place();
  // Both are multiples of a block, or the region is the smaller one.
  const uint64_t extra = std::max(kUsableExtraBytes, place.block_bytes);
  return requested + std::min(extra, place.region_bytes - requested);
}

void Mem::set_usable(uint64_t bytes) {
  usable_bytes_ = bytes;
  config_.store(offsetof(MemConfig, usable_region_size), le64(bytes));
}

Result<> Mem::set_requested(uint64_t bytes) {
  STRATO_TRY(check_requested_size(blocks_.place(), bytes));
  {
    MutexLock lock(mutex_);
    requested_bytes_ = bytes;
    // It does not shrink under a driver: that may have plugged what is in it.
    set_usable(std::max(usable_bytes_, usable_with(bytes)));
    config_.store(offsetof(MemConfig, requested_size), le64(bytes));
  }
  config_.notify_driver();
  return {};
}

void Mem::unplug_all() {
  if (take_all() == MemAnswer::Ack) return;
  log_guest(LogLevel::Warn, "{}: {} bytes stay plugged over a reset: the host cannot take them now", name_,
            plugged_bytes());
}

// --- requests

void Mem::serve() {
  for (int budget = kRoundChains; budget > 0 && !pending_; --budget) {
    GuestResult<std::optional<Chain>> next = worker_->queue().pop();
    if (!next || !*next) return worker_->publish();
    begin(**std::move(next));
  }
  worker_->publish();
  if (!pending_) worker_->serve_later();
}

void Mem::begin(Chain chain) {
  const uint64_t bytes = chain.reader.remaining();
  const GuestResult<MemRequest> request = chain.reader.read<MemRequest>();
  if (!request || chain.writer.remaining() < sizeof(MemResponse)) {
    log_guest(LogLevel::Warn, "{}: a request of {} bytes, with room for an answer of {}", name_, bytes,
              chain.writer.remaining());
    return worker_->queue().push_used(std::move(chain), 0);
  }
  switch (static_cast<MemRequestType>(request->type.get())) {
    case MemRequestType::Plug:
      return begin_plug(std::move(chain), *request);
    case MemRequestType::Unplug:
      return answer(std::move(chain), response(unplug(*request)));
    case MemRequestType::UnplugAll:
      return answer(std::move(chain), response(take_all()));
    case MemRequestType::State:
      return answer(std::move(chain), state_of(*request));
  }
  log_guest(LogLevel::Warn, "{}: a request of type {}", name_, request->type.get());
  answer(std::move(chain), response(MemAnswer::Error));
}

void Mem::answer(Chain chain, const MemResponse& response) {
  const GuestResult<> written = chain.writer.write(response);
  STRATO_ASSERT(written.has_value());  // begin() has seen that there is room
  worker_->queue().push_used(std::move(chain), sizeof(response));
}

std::optional<MemBlocks::Range> Mem::range_of(const MemRequest& request) const {
  const uint64_t usable = usable_bytes();
  const std::optional<MemBlocks::Range> range = blocks_.range(request.addr.get(), request.nb_blocks.get(), usable);
  if (!range) {
    log_guest(LogLevel::Warn, "{}: {} blocks at {:#x} are not usable ones", name_, request.nb_blocks.get(),
              request.addr.get());
  }
  return range;
}

MemAnswer Mem::check_plug(MemBlocks::Range range) const {
  const uint64_t requested = requested_bytes();
  if (blocks_.bytes_of(range) > requested - std::min(requested, blocks_.plugged_bytes())) return MemAnswer::Nack;
  if (blocks_.plugged_in(range) == 0) return MemAnswer::Ack;
  log_guest(LogLevel::Warn, "{}: of {} blocks to plug some are plugged", name_, range.count);
  return MemAnswer::Error;
}

void Mem::begin_plug(Chain chain, const MemRequest& request) {
  const std::optional<MemBlocks::Range> range = range_of(request);
  const MemAnswer checked = range ? check_plug(*range) : MemAnswer::Error;
  if (checked != MemAnswer::Ack) return answer(std::move(chain), response(checked));
  pending_.emplace(std::move(chain), ++last_number_);
  memory_.open(blocks_.offset_of(*range), blocks_.bytes_of(*range),
               [this, loop = loop_.load(), token = alive_.token(), number = last_number_, range = *range](bool opened) {
                 loop->post(token, [this, number, range, opened] { finish_plug(number, range, opened); });
               });
}

void Mem::finish_plug(uint64_t number, MemBlocks::Range range, bool opened) {
  const uint64_t offset = blocks_.offset_of(range);
  const uint64_t bytes = blocks_.bytes_of(range);
  const bool wanted = pending_ && pending_->number == number;
  MemAnswer result = MemAnswer::Busy;
  if (wanted && opened) result = check_plug(range);  // the wish may have changed
  if (result == MemAnswer::Ack && !memory_.prepare(offset, bytes)) result = MemAnswer::Busy;
  if (result == MemAnswer::Ack) {
    set_plugged(range, true);
  } else {
    memory_.close(offset, bytes);
  }
  if (!wanted) return;
  Chain chain = std::move(pending_->chain);
  pending_.reset();
  answer(std::move(chain), response(result));
  serve();
}

MemAnswer Mem::unplug(const MemRequest& request) {
  const std::optional<MemBlocks::Range> range = range_of(request);
  if (!range) return MemAnswer::Error;
  if (blocks_.plugged_in(*range) != range->count) {
    log_guest(LogLevel::Warn, "{}: of {} blocks to unplug some are not plugged", name_, range->count);
    return MemAnswer::Error;
  }
  if (!memory_.discard(blocks_.offset_of(*range), blocks_.bytes_of(*range))) return MemAnswer::Busy;
  set_plugged(*range, false);
  memory_.close(blocks_.offset_of(*range), blocks_.bytes_of(*range));
  return MemAnswer::Ack;
}

// §5.15.6.5: then the usable part is what the wish alone needs.
MemAnswer Mem::take_all() {
  for (const MemBlocks::Range run : blocks_.plugged_runs()) {
    if (!memory_.discard(blocks_.offset_of(run), blocks_.bytes_of(run))) continue;
    set_plugged(run, false);
    memory_.close(blocks_.offset_of(run), blocks_.bytes_of(run));
  }
  if (blocks_.plugged_bytes() != 0) return MemAnswer::Busy;
  MutexLock lock(mutex_);
  set_usable(usable_with(requested_bytes_));
  return MemAnswer::Ack;
}

MemResponse Mem::state_of(const MemRequest& request) const {
  const std::optional<MemBlocks::Range> range = range_of(request);
  if (!range) return response(MemAnswer::Error);
  const uint64_t plugged = blocks_.plugged_in(*range);
  MemResponse told = response(MemAnswer::Ack);
  const MemBlockState state = plugged == 0              ? MemBlockState::Unplugged
                              : plugged == range->count ? MemBlockState::Plugged
                                                        : MemBlockState::Mixed;
  told.state = static_cast<uint16_t>(state);
  return told;
}

void Mem::set_plugged(MemBlocks::Range range, bool plugged) {
  blocks_.set(range, plugged);
  plugged_bytes_ = blocks_.plugged_bytes();
  config_.store(offsetof(MemConfig, plugged_size), le64(blocks_.plugged_bytes()));
  on_plugged_();
}

}  // namespace strato::virtio
