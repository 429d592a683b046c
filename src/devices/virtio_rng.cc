#include "devices/virtio_rng.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/file.h"
#include "base/log.h"
#include "state/format.h"
#include "virtio/watch_doorbell.h"

namespace strato::virtio {
namespace {

// What a chain costs of a round's budget at least, so that empty ones are bounded too.
constexpr uint64_t kLeastCost = 256;

}  // namespace

Rng::Rng(Args args, const std::optional<RngState>& state)
    : name_(std::move(args.name)), source_(std::move(args.source)), limiter_(std::move(args.limiter)) {
  if (limiter_ == nullptr || !state) return;
  limiter_->set_tokens({.bytes = state->limiter_tokens, .operations = state->limiter_operations});
}

Rng::~Rng() = default;

Result<UniqueFd> Rng::open_source(const std::string& path) {
  UniqueFd fd = STRATO_TRY(open_file(path, O_RDONLY | O_NONBLOCK, "random source"));
  struct stat info{};
  if (::fstat(fd.get(), &info) < 0) return std::unexpected(Error::from_errno(path));
  if (S_ISDIR(info.st_mode)) return std::unexpected(Error::invalid(fmt::format("random source {}: a directory", path)));
  return fd;
}

// --- queue

Result<> Rng::start_queue(size_t index, QueueWiring wiring) {
  STRATO_ASSERT(index == 0 && worker_ == nullptr);
  EventLoop& loop = wiring.loop;
  worker_ = std::make_unique<Worker>(std::move(wiring));
  loop.post(worker_->alive.token(), [this] { begin(); });
  return {};
}

void Rng::begin() {
  const QueueWiring& wiring = worker_->wiring;
  STRATO_ASSERT(wiring.loop.in_loop_thread());
  worker_->retry.emplace(wiring.loop, [this] { serve(); });
  std::optional<Watch> watch = watch_doorbell(name_, wiring, [this] { serve(); });
  if (!watch) return;
  worker_->doorbell = *std::move(watch);
  serve();
}

void Rng::stop_queue(size_t index, ReturnQueue done) {
  STRATO_ASSERT(index == 0 && worker_ != nullptr);
  worker_->wiring.loop.post(worker_->alive.token(), [this, done = std::move(done)]() mutable {
    Queue queue = std::move(worker_->wiring.queue);
    worker_.reset();
    if (limiter_ != nullptr) limiter_->forget(this);
    done(std::move(queue));
  });
}

void Rng::reset(Done done) {
  if (worker_ == nullptr) return done();
  stop_queue(0, [done = std::move(done)](const Queue& /*queue*/) mutable { done(); });
}

Result<std::vector<std::byte>> Rng::save() const {
  RngState state;
  if (limiter_ != nullptr) {
    const IoLimiter::Tokens tokens = limiter_->tokens();
    state.limiter_tokens = tokens.bytes;
    state.limiter_operations = tokens.operations;
  }
  return state::to_bytes(state);
}

// --- requests

void Rng::serve() {
  Worker& worker = *worker_;
  STRATO_ASSERT(worker.wiring.loop.in_loop_thread());
  if (worker.retry->armed()) return;
  Queue& queue = worker.wiring.queue;
  uint64_t budget = kAnswerBytes;
  while (budget > 0) {
    GuestResult<std::optional<Chain>> next = queue.pop();
    if (!next || !*next) break;
    if (answer(**std::move(next), budget) == Answer::Later) break;
  }
  if (queue.publish()) worker.wiring.interrupt.raise();
  if (budget == 0) worker.wiring.loop.post(worker.alive.token(), [this] { serve(); });
}

Rng::Answer Rng::answer(Chain chain, uint64_t& budget) {
  Worker& worker = *worker_;
  uint64_t bytes = std::min(chain.writer.remaining(), kAnswerBytes);
  if (limiter_ != nullptr) {
    bytes = std::min(bytes, limiter_->most_bytes());
    if (const uint64_t wait = limiter_->admit(this, bytes); wait > 0) {
      worker.wiring.queue.unpop(std::move(chain));
      worker.retry->arm(wait);
      return Answer::Later;
    }
  }
  uint64_t filled = 0;
  if (bytes > 0) {
    filled = fill(chain, bytes);
    if (limiter_ != nullptr && filled < bytes) {
      limiter_->give_back({.bytes = bytes - filled, .operations = filled == 0 ? 1U : 0U});
    }
    if (filled == 0) {
      worker.wiring.queue.unpop(std::move(chain));
      worker.retry->arm(kRetryNs);
      return Answer::Later;
    }
  } else {
    log_guest(LogLevel::Warn, "{}: a buffer without room for a random byte", name_);
  }
  budget -= std::min(budget, std::max(filled, kLeastCost));
  worker.wiring.queue.push_used(std::move(chain), static_cast<uint32_t>(filled));
  return Answer::Given;
}

// Reads up to `bytes` straight into the chain's first ones. 0: the source has none now.
uint64_t Rng::fill(Chain& chain, uint64_t bytes) {
  GuestResult<ChainWriter> part = chain.writer.split(bytes);
  STRATO_ASSERT(part.has_value());
  GuestResult<DmaLease> lease = part->lease();
  STRATO_ASSERT(lease.has_value());
  const std::span<const iovec> room = lease->iovecs();
  ssize_t got = 0;
  do {
    got = ::readv(source_.get(), room.data(), static_cast<int>(std::min<size_t>(room.size(), IOV_MAX)));
  } while (got < 0 && errno == EINTR);
  if (got <= 0) report_empty_source(got < 0 ? errno : 0);
  lease->complete(got < 0 ? 0 : static_cast<uint64_t>(got));
  return got < 0 ? 0 : static_cast<uint64_t>(got);
}

void Rng::report_empty_source(int os_errno) {
  if (os_errno == EAGAIN) return;  // a slow source is in order
  log_guest(LogLevel::Warn, "{}: no random bytes: {}", name_,
            os_errno == 0 ? "the source has come to its end" : std::strerror(os_errno));
}

}  // namespace strato::virtio
