#include "base/thread.h"

#include <signal.h>

#include <memory>
#include <utility>

namespace strato {
namespace {

constexpr size_t kDefaultStackBytes = 256 * 1024;

struct Start {
  std::string name;
  std::move_only_function<void()> body;
};

void* run_body(void* argument) {
  std::unique_ptr<Start> start(static_cast<Start*>(argument));
  // Its own name a thread sets by one system call, that of another by three.
  ::pthread_setname_np(::pthread_self(), start->name.substr(0, 15).c_str());
  start->body();
  return nullptr;
}

}  // namespace

Result<Thread> Thread::start(const std::string& name, std::move_only_function<void()> body, size_t stack_bytes) {
  auto start = std::make_unique<Start>(Start{.name = name, .body = std::move(body)});
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, stack_bytes != 0 ? stack_bytes : kDefaultStackBytes);

  // The new thread inherits the mask: block all around its creation.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  // What a fault of the thread itself raises stays open: blocked, it would end the process past every handler (the
  // terminal's, for one).
  for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS}) ::sigdelset(&all, number);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t handle;
  const int error = ::pthread_create(&handle, &attributes, run_body, start.get());
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_attr_destroy(&attributes);
  if (error != 0) return std::unexpected(Error::from_errno("starting thread " + name, error));

  start.release();
  return Thread(handle);
}

Thread::Thread(Thread&& other) noexcept : handle_(other.handle_), joinable_(std::exchange(other.joinable_, false)) {}

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this != &other) {
    join();
    handle_ = other.handle_;
    joinable_ = std::exchange(other.joinable_, false);
  }
  return *this;
}

Thread::~Thread() {
  join();
}

void Thread::join() {
  if (std::exchange(joinable_, false)) ::pthread_join(handle_, nullptr);
}

}  // namespace strato
