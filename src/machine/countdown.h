#pragma once

#include <atomic>
#include <memory>

#include "bus/component.h"
#include "event/event_loop.h"

namespace strato {

// Waits for several asynchronous parts without a thread that waits: `then` runs on `loop` once when all parts that were
// handed out, and the Countdown itself, are done. Parts may be called on any thread. Dropped when `token` is dead by
// then.
class Countdown {
 public:
  Countdown(EventLoop& loop, Token token, Done then)
      : shared_(std::make_shared<Shared>(loop, std::move(token), std::move(then))) {}
  Countdown(const Countdown&) = delete;
  Countdown& operator=(const Countdown&) = delete;
  ~Countdown() { shared_->count_down(); }

  Done part() {
    shared_->open.fetch_add(1, std::memory_order_relaxed);
    return [shared = shared_] { shared->count_down(); };
  }

 private:
  struct Shared {
    Shared(EventLoop& loop_to_use, Token token_to_use, Done then_to_run)
        : loop(loop_to_use), token(std::move(token_to_use)), then(std::move(then_to_run)) {}
    void count_down() {
      if (open.fetch_sub(1, std::memory_order_acq_rel) == 1) loop.post(token, std::move(then));
    }
    EventLoop& loop;
    Token token;
    Done then;
    std::atomic<int> open{1};
  };
  std::shared_ptr<Shared> shared_;
};

}  // namespace strato
