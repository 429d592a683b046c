#include "devices/virtio_balloon.h"

#include <time.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato::virtio {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

// §5.5.2
constexpr size_t kInflate = 0;
constexpr size_t kDeflate = 1;
constexpr size_t kStats = 2;
constexpr size_t kQueuesWithoutReporting = 3;

uint64_t features_of(const Balloon::Args& args) {
  uint64_t features = kRingFeatures | kBalloonMustTellHost | kBalloonStats;
  if (args.deflate_on_oom) features |= kBalloonDeflateOnOom;
  // Linux does not report where it cannot say what it fills free pages with.
  if (args.page_reporting) features |= kBalloonReporting | kBalloonPagePoison;
  return features;
}

}  // namespace

Balloon::Balloon(Args args, const std::optional<BalloonState>& state)
    : name_(std::move(args.name)),
      ram_bytes_(args.ram_bytes),
      discard_(args.discard),
      features_(features_of(args)),
      automatic_(args.automatic),
      on_actual_(std::move(args.on_actual)),
      config_(BalloonConfig{.num_pages = state ? state->num_pages : 0,
                            .actual = state ? state->actual : 0,
                            .free_page_hint_cmd_id = 0,
                            .poison_val = state ? state->poison_val : 0}),
      poll_interval_s_(automatic_ ? automatic_->interval_s : 0),
      last_actual_(state ? state->actual : 0),
      pieces_(discard_) {
  config_.make_writable(offsetof(BalloonConfig, actual), sizeof(le32));
  config_.make_writable(offsetof(BalloonConfig, poison_val), sizeof(le32));
}

Balloon::~Balloon() = default;

std::span<const uint16_t> Balloon::queue_sizes() const {
  const std::span<const uint16_t> all = kQueueSizes;
  return (features_ & kBalloonReporting) != 0 ? all : all.first(kQueuesWithoutReporting);
}

// --- life cycle

Balloon::Role Balloon::role_of(size_t index) const {
  if (index == kInflate) return Role::Inflate;
  if (index == kDeflate) return Role::Deflate;
  return index == kStats && (negotiated_ & kBalloonStats) != 0 ? Role::Stats : Role::Report;
}

// Workers come and go on the loop alone, in the order of these calls.
Result<> Balloon::start_queue(size_t index, QueueWiring wiring) {
  EventLoop& loop = wiring.loop;
  EventLoop* before = loop_.exchange(&loop);
  STRATO_ASSERT(before == nullptr || before == &loop);
  loop.post(alive_.token(), [this, index, wiring = std::move(wiring)]() mutable { begin(index, std::move(wiring)); });
  return {};
}

void Balloon::begin(size_t index, QueueWiring wiring) {
  STRATO_ASSERT(workers_[index] == nullptr);
  EventLoop& loop = wiring.loop;
  workers_[index] = std::make_unique<QueueWorker>(name_, std::move(wiring), [this, index] { serve(index); });
  if (role_of(index) == Role::Stats) {
    stats_worker_ = workers_[index].get();
    poll_.emplace(loop, [this] { ask_for_stats(); });
    arm_poll();
  }
  serve(index);
}

void Balloon::stop_queue(size_t index, ReturnQueue done) {
  loop_.load()->post(alive_.token(), [this, index, done = std::move(done)]() mutable {
    Queue queue = workers_[index]->take();
    if (stats_worker_ == workers_[index].get()) {
      stats_worker_ = nullptr;
      poll_.reset();
    }
    workers_[index].reset();
    done(std::move(queue));
  });
}

void Balloon::reset(Done done) {
  run_on(loop_, alive_.token(), [this, done = std::move(done)]() mutable {
    clear();
    done();
  });
}

// The guest has all its memory again; what it shall have stays.
void Balloon::clear() {
  stats_worker_ = nullptr;
  poll_.reset();
  for (std::unique_ptr<QueueWorker>& worker : workers_) worker.reset();
  pieces_.take_all_back();
  negotiated_ = 0;
  {
    MutexLock lock(mutex_);
    stats_ = {};
  }
  config_.store(offsetof(BalloonConfig, poison_val), le32(0));
  config_.store(offsetof(BalloonConfig, actual), le32(0));
  if (last_actual_.exchange(0) != 0) on_actual_();
}

Result<std::vector<std::byte>> Balloon::save() const {
  const auto config = config_.load<BalloonConfig>(0);
  return state::to_bytes(BalloonState{
      .num_pages = config.num_pages.get(), .actual = config.actual.get(), .poison_val = config.poison_val.get()});
}

// --- what the host asks

void Balloon::config_written(size_t /*offset*/, size_t /*bytes*/) {
  const uint32_t actual = config_.load<le32>(offsetof(BalloonConfig, actual)).get();
  if (last_actual_.exchange(actual) != actual) on_actual_();
}

uint64_t Balloon::actual_bytes() const {
  return ram_bytes_ - std::min(ram_bytes_, last_actual_ * kBalloonPageBytes);
}

void Balloon::set_target(uint64_t bytes) {
  const uint64_t pages = (ram_bytes_ - std::min(ram_bytes_, bytes)) / kBalloonPageBytes;
  config_.store(offsetof(BalloonConfig, num_pages), le32(static_cast<uint32_t>(pages)));
  config_.notify_driver();
}

void Balloon::set_poll_interval(uint32_t seconds) {
  poll_interval_s_ = seconds;
  if (EventLoop* loop = loop_) loop->post(alive_.token(), [this] { arm_poll(); });
}

BalloonStats Balloon::stats() const {
  MutexLock lock(mutex_);
  return stats_;
}

// --- queues

void Balloon::serve(size_t index) {
  QueueWorker& worker = *workers_[index];
  switch (role_of(index)) {
    case Role::Inflate:
      return serve_pages(worker, true);
    case Role::Deflate:
      return serve_pages(worker, false);
    case Role::Stats:
      return serve_stats(worker);
    case Role::Report:
      return serve_reports(worker);
  }
  std::unreachable();
}

void Balloon::serve_pages(QueueWorker& worker, bool inflate) {
  worker.serve_chains(kRoundChains, [this, &queue = worker.queue(), inflate](Chain chain) {
    serve_pages_of(chain, *queue.memory(), inflate);
    queue.push_used(std::move(chain), 0);
  });
}

void Balloon::serve_pages_of(Chain& chain, const GuestMemory& memory, bool inflate) {
  const uint64_t odd_bytes = chain.reader.remaining() % sizeof(le32);
  const uint64_t count = BalloonPages::for_each_run(chain.reader, [&](GuestAddr start, uint64_t bytes) {
    const GuestResult<> visited = memory.slices(start, bytes, [this, inflate](const GuestSlice& slice) {
      if (inflate) {
        give_up(slice);
      } else {
        pieces_.take_back(slice);
      }
    });
    if (!visited) {
      log_guest(LogLevel::Warn, "{}: {} bytes at {:#x} are no memory", name_, bytes, start.raw());
    }
  });
  if (count == 0 || odd_bytes != 0) {
    log_guest(LogLevel::Warn, "{}: a list of {} pages and {} bytes", name_, count, odd_bytes);
  } else if (count > BalloonPages::kMaxPages) {
    log_guest(LogLevel::Warn, "{}: a list of {} pages, of which the first {} count", name_, count,
              BalloonPages::kMaxPages);
  }
}

void Balloon::give_up(const GuestSlice& slice) {
  // Without that promise a part that was in the balloon may be in use again when the last one comes.
  const bool promised = (negotiated_ & kBalloonMustTellHost) != 0;
  const Result<uint64_t> gone = promised ? pieces_.give_up(slice) : discard_.discard(slice);
  if (!gone) log_guest(LogLevel::Warn, "{}: {}", name_, gone.error().text());
}

bool Balloon::poisoned() const {
  return (negotiated_ & kBalloonPagePoison) != 0 && config_.load<le32>(offsetof(BalloonConfig, poison_val)).get() != 0;
}

// §5.5.6.7: free memory, which the driver gets back with the chain.
void Balloon::serve_reports(QueueWorker& worker) {
  // §5.5.6.7.2: what the driver filled free pages with must still be there; a page that was given back is zero.
  const bool keep = poisoned() || (negotiated_ & kBalloonReporting) == 0;
  worker.serve_chains(kRoundChains, [this, &worker, keep](Chain chain) {
    if (chain.writer.empty()) log_guest(LogLevel::Warn, "{}: a report of no memory", name_);
    if (!keep) {
      chain.writer.take_slices([this](const GuestSlice& slice) {
        const Result<uint64_t> gone = discard_.discard(slice);
        if (!gone) log_guest(LogLevel::Warn, "{}: {}", name_, gone.error().text());
      });
    }
    worker.queue().push_used(std::move(chain), 0);
  });
}

// §5.5.6.3: the driver's buffer stays until we want newer ones.
void Balloon::serve_stats(QueueWorker& worker) {
  GuestResult<std::optional<Chain>> next = worker.queue().pop();
  if (!next || !*next) return;
  Chain chain = **std::move(next);
  const BalloonStats stats = parse_balloon_stats(chain.reader);
  worker.queue().unpop(std::move(chain));
  {
    MutexLock lock(mutex_);
    stats_ = stats;
  }
  last_stats_s_ = static_cast<uint64_t>(::time(nullptr));
  if (automatic_) choose_size(stats);
}

void Balloon::arm_poll() {
  if (!poll_) return;
  poll_->cancel();
  if (const uint64_t seconds = poll_interval_s_; seconds != 0) poll_->arm_periodic(seconds * kNsPerSecond);
}

void Balloon::ask_for_stats() {
  Queue& queue = stats_worker_->queue();
  GuestResult<std::optional<Chain>> next = queue.pop();
  if (!next || !*next) return;  // it has not answered yet
  queue.push_used(**std::move(next), 0);
  stats_worker_->publish();
  serve_stats(*stats_worker_);  // also asks the driver to ring
}

void Balloon::choose_size(const BalloonStats& stats) {
  std::optional<uint64_t> unneeded = stats.of(BalloonStatTag::AvailableMemory);
  if (!unneeded) unneeded = stats.of(BalloonStatTag::FreeMemory);
  if (!unneeded) return;
  const uint64_t ballooned = ram_bytes_ - actual_bytes();
  // The guest's number is anything.
  const uint64_t spare = std::min(*unneeded, ram_bytes_ - ballooned) + ballooned;
  const uint64_t wanted = spare / 100 * (100 - automatic_->keep_percent);
  const uint64_t now = config_.load<le32>(offsetof(BalloonConfig, num_pages)).get() * kBalloonPageBytes;
  if (std::max(wanted, now) - std::min(wanted, now) >= kLeastChangeBytes) set_target(ram_bytes_ - wanted);
}

}  // namespace strato::virtio
