#include "event/io_thread.h"

#include "base/assert.h"

namespace strato {

Result<std::unique_ptr<IoThread>> IoThread::create(const std::string& name, const Clock& clock, uint64_t poll_max_ns) {
  std::unique_ptr<EventLoop> loop = STRATO_TRY(EventLoop::create(name, clock, poll_max_ns));
  std::unique_ptr<IoThread> io_thread(new IoThread(std::move(loop)));
  // From here on the loop is the new thread's, also before that thread has got going.
  io_thread->loop_->disown();
  io_thread->thread_ = STRATO_TRY(Thread::start(name, [loop = io_thread->loop_.get()] { loop->run(); }));
  return io_thread;
}

void IoThread::stop() {
  if (!thread_.joinable()) return;
  STRATO_ASSERT(!loop_->in_loop_thread());
  loop_->stop();
  thread_.join();
  loop_->adopt();
}

}  // namespace strato
