// One thread's epoll loop: watches, timers (timer.h), closures posted by other threads, hooks for batching.
// Threads: everything belongs to the loop's thread, except post(), stop() and in_loop_thread(), which any thread may
// call. The thread that created a loop has it until another one calls run(), run_once() or adopt().
#pragma once

#include <pthread.h>
#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "event/adaptive_poll.h"
#include "event/clock.h"
#include "event/event_fd.h"
#include "event/lifetime.h"

namespace strato {

class EventLoop;
class Timer;

// A registered fd. Destroying it unregisters, also from inside its own callback or another one's: the callback is not
// called any more, even when its fd was ready in the same batch. Destroy it before its fd is closed.
class [[nodiscard]] Watch {
 public:
  Watch();  // watches nothing
  Watch(Watch&&) noexcept;
  Watch& operator=(Watch&&) noexcept;
  ~Watch();

  bool active() const { return slot_ != nullptr; }
  // EPOLLIN and so on. 0 means silence: not even EPOLLHUP is reported then.
  void set_events(uint32_t epoll_events);
  void reset();

 private:
  friend class EventLoop;
  struct Slot;
  explicit Watch(std::unique_ptr<Slot> slot);
  std::unique_ptr<Slot> slot_;
};

// Called on the loop's thread, once per round of the loop.
class LoopHook {
 public:
  virtual ~LoopHook() = default;
  // Looks for work that no fd announces (completion rings); true: there was some, so the loop does not sleep now.
  virtual bool poll() { return false; }
  // The last moment before the loop may sleep: submit, publish, notify once for the whole round.
  virtual void before_sleep() {}
};

// Unregisters its hook when destroyed, also from inside that hook.
class [[nodiscard]] HookRegistration {
 public:
  HookRegistration() = default;
  HookRegistration(HookRegistration&& other) noexcept
      : loop_(std::exchange(other.loop_, nullptr)), hook_(std::exchange(other.hook_, nullptr)) {}
  HookRegistration& operator=(HookRegistration&& other) noexcept;
  ~HookRegistration() { reset(); }
  void reset();

 private:
  friend class EventLoop;
  HookRegistration(EventLoop& loop, LoopHook& hook) : loop_(&loop), hook_(&hook) {}
  EventLoop* loop_ = nullptr;
  LoopHook* hook_ = nullptr;
};

class EventLoop {
 public:
  using Callback = std::move_only_function<void(uint32_t epoll_events)>;

  // Costs three system calls. `clock` outlives the loop. The name is for messages. The loop looks for work for at most
  // `poll_max_ns` before it sleeps (adaptive_poll.h).
  static Result<std::unique_ptr<EventLoop>> create(std::string name, const Clock& clock, uint64_t poll_max_ns = 0);
  // All watches, timers and hook registrations are gone by now. Closures not yet run are dropped.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Serves until stop(). A stop() that came earlier ends it at once.
  void run();
  void stop();
  // One round: waits at most `timeout_ns` (none: until something happens) and serves all that is ready. Returns the
  // number of callbacks that ran.
  size_t run_once(std::optional<uint64_t> timeout_ns);

  // Error with os_errno() EPERM: epoll does not take this kind of fd (regular file, /dev/null); such a one never
  // blocks. `callback` gets the ready events.
  Result<Watch> watch(int fd, uint32_t epoll_events, Callback callback);

  // Runs `closure` on the loop's thread, in the order of the calls, unless `token` is dead by then. Any thread.
  void post(Token token, std::move_only_function<void()> closure);

  HookRegistration add_hook(LoopHook& hook);

  bool in_loop_thread() const { return ::pthread_equal(owner_.load(std::memory_order_relaxed), ::pthread_self()) != 0; }
  // The calling thread takes the loop over, for example after it joined the thread that ran it.
  void adopt() { owner_.store(::pthread_self(), std::memory_order_relaxed); }

  // Until the next adopt() or run() no thread has it.
  void disown() { owner_.store(pthread_t{}, std::memory_order_relaxed); }

  const Clock& clock() const { return clock_; }
  const std::string& name() const { return name_; }

 private:
  friend class Watch;
  friend class Timer;
  friend class HookRegistration;
  struct Posted {
    Token token;
    std::move_only_function<void()> closure;
  };
  struct TimerSlot;
  struct Earlier {
    bool operator()(const TimerSlot* a, const TimerSlot* b) const;
  };

  EventLoop(std::string name, const Clock& clock, uint64_t poll_max_ns, UniqueFd epoll, EventFd wake);
  void retire(std::unique_ptr<Watch::Slot> slot);
  void retire(std::unique_ptr<TimerSlot> slot);
  void arm(TimerSlot& slot, uint64_t deadline_ns);
  void disarm(TimerSlot& slot);
  void remove_hook(LoopHook& hook);

  bool poll_hooks();
  bool run_hooks();
  int wait(std::span<epoll_event> events, std::optional<uint64_t> limit_ns);
  int spin(std::span<epoll_event> events, uint64_t end_ns);
  std::optional<uint64_t> sleep_ns(std::optional<uint64_t> limit_ns) const;
  size_t run_posted();
  size_t run_timers();

  const std::string name_;
  const Clock& clock_;
  const UniqueFd epoll_;
  const EventFd wake_;
  std::atomic<pthread_t> owner_;
  std::atomic<bool> stopping_{false};

  AdaptivePoll adaptive_poll_;
  size_t live_slots_ = 0;  // watches and timers that point to us
  bool in_callbacks_ = false;
  std::vector<std::unique_ptr<Watch::Slot>> retired_watches_;  // a running callback outlives its run
  std::vector<std::unique_ptr<TimerSlot>> retired_timers_;
  std::set<TimerSlot*, Earlier> timers_;
  uint64_t next_sequence_ = 0;
  std::vector<LoopHook*> hooks_;  // null: removed, swept at the end of the round

  Mutex posted_mutex_;
  std::vector<Posted> posted_ STRATO_GUARDED_BY(posted_mutex_);
};

}  // namespace strato
