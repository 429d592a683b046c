#include "devices/virtio_pmem.h"

#include <fmt/format.h>

#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato::virtio {

Result<std::unique_ptr<Pmem>> Pmem::create(Args args, const std::optional<PmemState>& state) {
  std::unique_ptr<Pmem> pmem(new Pmem(std::move(args)));
  if (!state || *state == pmem->state()) return pmem;
  const PmemState ours = pmem->state();
  const auto word = [](uint8_t lasting) { return lasting != 0 ? "that lasts" : "that does not last"; };
  return std::unexpected(Error::invalid(fmt::format(
      "the saved device has {:#x} bytes at {:#x} {}, this command line {:#x} bytes at {:#x} {}", state->size_bytes,
      state->start, word(state->lasting), ours.size_bytes, ours.start, word(ours.lasting))));
}

Pmem::Pmem(Args args)
    : name_(std::move(args.name)),
      config_(PmemConfig{.start = args.start, .size = args.size_bytes}),
      flusher_(std::move(args.flusher)) {
  waiting_.reserve(kQueueSize);
  flushing_.reserve(kQueueSize);
}

Pmem::~Pmem() {
  STRATO_ASSERT(worker_ == nullptr);
}

PmemState Pmem::state() const {
  const auto config = config_.load<PmemConfig>(0);
  return {.start = config.start.get(),
          .size_bytes = config.size.get(),
          .lasting = static_cast<uint8_t>(flusher_ != nullptr ? 1 : 0)};
}

// --- life cycle

Result<> Pmem::start_queue(size_t index, QueueWiring wiring) {
  STRATO_ASSERT(index == 0);
  EventLoop& loop = wiring.loop;
  loop_ = &loop;
  loop.post(alive_.token(), [this, wiring = std::move(wiring)]() mutable {
    STRATO_ASSERT(worker_ == nullptr);
    worker_ = std::make_unique<QueueWorker>(name_, std::move(wiring), [this] { serve(); });
    serve();
  });
  return {};
}

void Pmem::forget_requests() {
  for (Chain& chain : flushing_) std::move(chain).abandon();
  for (Chain& chain : waiting_) std::move(chain).abandon();
  flushing_.clear();
  waiting_.clear();
}

void Pmem::stop_queue(size_t index, ReturnQueue done) {
  STRATO_ASSERT(index == 0);
  loop_.load()->post(alive_.token(), [this, done = std::move(done)]() mutable {
    forget_requests();
    Queue queue = worker_->take();
    worker_.reset();
    done(std::move(queue));
  });
}

void Pmem::reset(Done done) {
  run_on(loop_, alive_.token(), [this, done = std::move(done)]() mutable {
    forget_requests();
    worker_.reset();
    done();
  });
}

void Pmem::pause(Done done) {
  if (flusher_ == nullptr || failed_ || !may_have_written_.exchange(false)) return done();
  EventLoop* const loop = loop_;
  if (loop == nullptr) {  // a guest does not need the queue to write
    return flusher_->flush([this, done = std::move(done)](const Result<>& outcome) mutable {
      note(outcome);
      done();
    });
  }
  loop->post(alive_.token(), [this, done = std::move(done)]() mutable {
    paused_ = std::move(done);
    begin_flush();
  });
}

Result<std::vector<std::byte>> Pmem::save() const {
  if (failed_) {
    return std::unexpected(
        Error(ErrorCode::Io, fmt::format("{} cannot be saved: its file could not be flushed", name_)));
  }
  return state::to_bytes(state());
}

// --- requests

void Pmem::serve() {
  worker_->serve_chains(kRoundChains, [this](Chain chain) { take(std::move(chain)); });
  begin_flush();
}

void Pmem::take(Chain chain) {
  const GuestResult<PmemRequest> request = chain.reader.read<PmemRequest>();
  if (!request || request->type.get() != kPmemFlush) {
    log_guest(LogLevel::Warn, "{}: a request that is no flush", name_);
    return answer(std::move(chain), kPmemError);
  }
  if (flusher_ == nullptr) return answer(std::move(chain), kPmemOk);
  if (failed_) return answer(std::move(chain), kPmemError);
  waiting_.push_back(std::move(chain));
}

void Pmem::answer(Chain chain, uint32_t ret) {
  const GuestResult<> written = chain.writer.write(PmemResponse{.ret = ret});
  if (!written) log_guest(LogLevel::Warn, "{}: a request without room for the answer", name_);
  worker_->queue().push_used(std::move(chain), written ? sizeof(PmemResponse) : 0);
}

void Pmem::begin_flush() {
  if (busy_ || (waiting_.empty() && !paused_)) return;
  busy_ = true;
  for_pause_ = static_cast<bool>(paused_);
  std::swap(flushing_, waiting_);
  EventLoop& loop = *loop_.load();
  flusher_->flush([this, &loop, token = alive_.token()](Result<> outcome) {
    loop.post(token, [this, outcome = std::move(outcome)] { end_flush(outcome); });
  });
}

void Pmem::end_flush(const Result<>& outcome) {
  busy_ = false;
  note(outcome);
  for (Chain& chain : flushing_) answer(std::move(chain), outcome ? kPmemOk : kPmemError);
  flushing_.clear();
  if (failed_) {
    for (Chain& chain : waiting_) answer(std::move(chain), kPmemError);
    waiting_.clear();
  }
  if (paused_ && (for_pause_ || failed_)) std::exchange(paused_, nullptr)();
  if (worker_ == nullptr) return begin_flush();
  worker_->publish();
  serve();  // also what did not fit while so many were unfinished
}

void Pmem::note(const Result<>& outcome) {
  if (outcome) return;
  failed_ = true;
  log_guest(LogLevel::Error, "{}: {}: what was written may be lost, and all further flushes fail", name_,
            outcome.error().text());
}

}  // namespace strato::virtio
