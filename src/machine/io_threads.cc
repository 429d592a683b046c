#include "machine/io_threads.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"

namespace strato {

Result<std::unique_ptr<IoThreads>> IoThreads::create(std::span<const IothreadConfig> wanted, const Clock& clock) {
  std::unique_ptr<IoThreads> all(new IoThreads(clock));
  for (const IothreadConfig& config : wanted) {
    Result<std::unique_ptr<IoThread>> thread = IoThread::create(config.id, clock, config.poll_max_ns);
    if (!thread) {
      return std::unexpected(std::move(thread).error().context(fmt::format("-object iothread,id={}", config.id)));
    }
    all->threads_.push_back(*std::move(thread));
  }
  return all;
}

Result<EventLoop*> IoThreads::loop(std::string_view id) {
  if (id.empty()) {
    if (default_ == nullptr) default_ = STRATO_TRY(IoThread::create("io", clock_));
    return &default_->loop();
  }
  const auto named = std::ranges::find_if(
      threads_, [id](const std::unique_ptr<IoThread>& thread) { return thread->loop().name() == id; });
  STRATO_ASSERT(named != threads_.end());
  return &(*named)->loop();
}

void IoThreads::stop() {
  for (const std::unique_ptr<IoThread>& thread : threads_) thread->stop();
  if (default_ != nullptr) default_->stop();
}

}  // namespace strato
