#include "event/event_loop.h"

#include <errno.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/assert.h"
#include "event/timer_slot.h"

namespace strato {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kNsPerMs = 1'000'000;

// Number of ready events; none when a signal came first.
int wait_for_events(int epoll, std::span<epoll_event> events, std::optional<uint64_t> timeout_ns) {
  const int room = static_cast<int>(events.size());
  int ready = -1;
  if (!timeout_ns || *timeout_ns == 0) {
    ready = ::epoll_wait(epoll, events.data(), room, timeout_ns ? 0 : -1);
  } else {
    const timespec timeout{.tv_sec = static_cast<time_t>(*timeout_ns / kNsPerSecond),
                           .tv_nsec = static_cast<long>(*timeout_ns % kNsPerSecond)};
    ready = ::epoll_pwait2(epoll, events.data(), room, &timeout, nullptr);
    if (ready < 0 && errno == ENOSYS) {
      // Linux before 5.11: whole milliseconds, rounded up so that a timer is due when we wake.
      const uint64_t ms = std::min<uint64_t>((*timeout_ns - 1) / kNsPerMs + 1, 1'000'000);
      ready = ::epoll_wait(epoll, events.data(), room, static_cast<int>(ms));
    }
  }
  STRATO_ASSERT(ready >= 0 || errno == EINTR);
  return std::max(ready, 0);
}

}  // namespace

struct Watch::Slot {
  EventLoop& loop;
  int fd;
  uint32_t events;
  EventLoop::Callback callback;
  bool dead = false;
};

Watch::Watch(std::unique_ptr<Slot> slot) : slot_(std::move(slot)) {}
Watch::Watch() = default;
Watch::Watch(Watch&&) noexcept = default;

Watch& Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    reset();
    slot_ = std::move(other.slot_);
  }
  return *this;
}

Watch::~Watch() {
  reset();
}

void Watch::reset() {
  if (slot_ == nullptr) return;
  EventLoop& loop = slot_->loop;
  STRATO_ASSERT(loop.in_loop_thread());
  ::epoll_ctl(loop.epoll_.get(), EPOLL_CTL_DEL, slot_->fd, nullptr);
  slot_->dead = true;
  loop.retire(std::move(slot_));
}

void Watch::set_events(uint32_t epoll_events) {
  STRATO_ASSERT(slot_ != nullptr && slot_->loop.in_loop_thread());
  if (slot_->events == epoll_events) return;
  slot_->events = epoll_events;
  // epoll reports EPOLLHUP and EPOLLERR unasked; edge-triggered, a silenced one wakes the loop once instead of for
  // ever.
  epoll_event event{.events = epoll_events != 0 ? epoll_events : EPOLLET, .data = {.ptr = slot_.get()}};
  STRATO_ASSERT(::epoll_ctl(slot_->loop.epoll_.get(), EPOLL_CTL_MOD, slot_->fd, &event) == 0);
}

HookRegistration& HookRegistration::operator=(HookRegistration&& other) noexcept {
  if (this != &other) {
    reset();
    loop_ = std::exchange(other.loop_, nullptr);
    hook_ = std::exchange(other.hook_, nullptr);
  }
  return *this;
}

void HookRegistration::reset() {
  if (loop_ != nullptr) std::exchange(loop_, nullptr)->remove_hook(*hook_);
}

bool EventLoop::Earlier::operator()(const TimerSlot* a, const TimerSlot* b) const {
  return std::pair(a->deadline_ns, a->sequence) < std::pair(b->deadline_ns, b->sequence);
}

Result<std::unique_ptr<EventLoop>> EventLoop::create(std::string name, const Clock& clock, uint64_t poll_max_ns) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return std::unexpected(Error::from_errno("epoll_create1"));
  EventFd wake = STRATO_TRY(EventFd::create());
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.fd(), &event) != 0) {
    return std::unexpected(Error::from_errno("adding an eventfd to epoll"));
  }
  return std::unique_ptr<EventLoop>(
      new EventLoop(std::move(name), clock, poll_max_ns, std::move(epoll), std::move(wake)));
}

EventLoop::EventLoop(std::string name, const Clock& clock, uint64_t poll_max_ns, UniqueFd epoll, EventFd wake)
    : name_(std::move(name)),
      clock_(clock),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)),
      owner_(::pthread_self()),
      adaptive_poll_(poll_max_ns) {}

EventLoop::~EventLoop() {
  STRATO_ASSERT(!in_callbacks_);
  std::vector<Posted> dropped;
  {
    MutexLock lock(posted_mutex_);
    dropped.swap(posted_);
  }
  dropped.clear();
  STRATO_ASSERT(live_slots_ == 0 && hooks_.empty());
}

void EventLoop::run() {
  adopt();
  while (!stopping_.load(std::memory_order_acquire)) run_once(std::nullopt);
  stopping_.store(false, std::memory_order_relaxed);
}

void EventLoop::stop() {
  stopping_.store(true, std::memory_order_release);
  wake_.signal();
}

size_t EventLoop::run_once(std::optional<uint64_t> timeout_ns) {
  STRATO_ASSERT(!in_callbacks_);
  adopt();
  in_callbacks_ = true;

  const bool found_work = run_hooks();
  std::array<epoll_event, 64> events;
  const int ready = wait(events, found_work ? 0 : sleep_ns(timeout_ns));
  size_t calls = 0;
  bool woken = false;
  for (int i = 0; i < ready; ++i) {
    auto* slot = static_cast<Watch::Slot*>(events[static_cast<size_t>(i)].data.ptr);
    if (slot == nullptr) {
      woken = true;
    } else if (!slot->dead && slot->events != 0) {
      slot->callback(events[static_cast<size_t>(i)].events);
      ++calls;
    }
  }
  if (woken) calls += run_posted();
  calls += run_timers();

  // Destroying a closure may retire more.
  while (!retired_watches_.empty() || !retired_timers_.empty()) {
    live_slots_ -= retired_watches_.size() + retired_timers_.size();
    std::exchange(retired_watches_, {}).clear();
    std::exchange(retired_timers_, {}).clear();
  }
  std::erase(hooks_, nullptr);
  in_callbacks_ = false;
  return calls;
}

Result<Watch> EventLoop::watch(int fd, uint32_t epoll_events, Callback callback) {
  STRATO_ASSERT(in_loop_thread());
  auto slot = std::make_unique<Watch::Slot>(*this, fd, epoll_events, std::move(callback));
  epoll_event event{.events = epoll_events != 0 ? epoll_events : EPOLLET, .data = {.ptr = slot.get()}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("watching fd {}", fd)));
  }
  ++live_slots_;
  return Watch(std::move(slot));
}

void EventLoop::post(Token token, std::move_only_function<void()> closure) {
  bool first;
  {
    MutexLock lock(posted_mutex_);
    first = posted_.empty();
    posted_.push_back({std::move(token), std::move(closure)});
  }
  if (first) wake_.signal();
}

HookRegistration EventLoop::add_hook(LoopHook& hook) {
  STRATO_ASSERT(in_loop_thread());
  hooks_.push_back(&hook);
  return {*this, hook};
}

void EventLoop::remove_hook(LoopHook& hook) {
  STRATO_ASSERT(in_loop_thread());
  std::ranges::replace(hooks_, &hook, nullptr);
  if (!in_callbacks_) std::erase(hooks_, nullptr);
}

void EventLoop::retire(std::unique_ptr<Watch::Slot> slot) {
  if (in_callbacks_) {
    retired_watches_.push_back(std::move(slot));
  } else {
    --live_slots_;
  }
}

void EventLoop::retire(std::unique_ptr<TimerSlot> slot) {
  if (in_callbacks_) {
    retired_timers_.push_back(std::move(slot));
  } else {
    --live_slots_;
  }
}

void EventLoop::arm(TimerSlot& slot, uint64_t deadline_ns) {
  STRATO_ASSERT(in_loop_thread());
  disarm(slot);
  slot.deadline_ns = deadline_ns;
  slot.sequence = next_sequence_++;
  slot.armed = true;
  timers_.insert(&slot);
}

void EventLoop::disarm(TimerSlot& slot) {
  if (std::exchange(slot.armed, false)) timers_.erase(&slot);
}

// Number of ready events.
int EventLoop::wait(std::span<epoll_event> events, std::optional<uint64_t> limit_ns) {
  if (!adaptive_poll_.enabled() || limit_ns == 0) return wait_for_events(epoll_.get(), events, limit_ns);
  const uint64_t start = clock_.now_ns();
  const uint64_t limit = limit_ns.value_or(UINT64_MAX);
  int ready = spin(events, start + std::min(limit, adaptive_poll_.spin_ns()));
  if (ready < 0) {
    if (limit_ns) *limit_ns -= std::min(*limit_ns, clock_.now_ns() - start);
    ready = wait_for_events(epoll_.get(), events, limit_ns);
  }
  adaptive_poll_.waited(clock_.now_ns() - start);
  return ready;
}

// Looks for work until the clock shows `end_ns`. Number of ready events; -1 when nothing came.
int EventLoop::spin(std::span<epoll_event> events, uint64_t end_ns) {
  while (clock_.now_ns() < end_ns) {
    const int ready = wait_for_events(epoll_.get(), events, 0);
    if (ready > 0 || poll_hooks()) return ready;
  }
  return -1;
}

// By index: a hook may add or remove others.
bool EventLoop::poll_hooks() {
  bool found_work = false;
  for (size_t i = 0; i < hooks_.size(); ++i) {
    if (hooks_[i] != nullptr) found_work |= hooks_[i]->poll();
  }
  return found_work;
}

bool EventLoop::run_hooks() {
  const bool found_work = poll_hooks();
  for (size_t i = 0; i < hooks_.size(); ++i) {
    if (hooks_[i] != nullptr) hooks_[i]->before_sleep();
  }
  return found_work;
}

std::optional<uint64_t> EventLoop::sleep_ns(std::optional<uint64_t> limit_ns) const {
  if (timers_.empty()) return limit_ns;
  const uint64_t deadline = (*timers_.begin())->deadline_ns;
  const uint64_t now = clock_.now_ns();
  const uint64_t until_timer = deadline > now ? deadline - now : 0;
  return limit_ns ? std::min(*limit_ns, until_timer) : until_timer;
}

size_t EventLoop::run_posted() {
  wake_.consume();
  std::vector<Posted> batch;
  {
    MutexLock lock(posted_mutex_);
    batch.swap(posted_);
  }
  size_t calls = 0;
  for (Posted& posted : batch) {
    if (posted.token.alive()) {
      posted.closure();
      ++calls;
    }
    posted.closure = nullptr;  // its captures go before the next closure runs
  }
  return calls;
}

size_t EventLoop::run_timers() {
  if (timers_.empty()) return 0;
  const uint64_t now = clock_.now_ns();
  const uint64_t armed_before = next_sequence_;  // what a callback arms now waits for the next round
  const auto due = [&]() -> TimerSlot* {
    for (TimerSlot* slot : timers_) {
      if (slot->deadline_ns > now) return nullptr;
      if (slot->sequence < armed_before) return slot;
    }
    return nullptr;
  };
  size_t calls = 0;
  while (TimerSlot* slot = due()) {
    disarm(*slot);
    if (slot->period_ns != 0) {
      const uint64_t missed = (now - slot->deadline_ns) / slot->period_ns;
      arm(*slot, slot->deadline_ns + (missed + 1) * slot->period_ns);
    }
    slot->callback();
    ++calls;
  }
  return calls;
}

}  // namespace strato
