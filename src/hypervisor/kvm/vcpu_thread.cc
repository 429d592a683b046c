#include "hypervisor/kvm/vcpu_thread.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

#include "base/assert.h"

namespace strato {
namespace {

// Does nothing but end KVM_RUN with EINTR. Blocked in all other threads (base/thread.h blocks everything).
int kick_signal() {
  return SIGRTMIN;
}

Result<> install_kick_handler() {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  if (::sigaction(kick_signal(), &action, nullptr) != 0) return std::unexpected(Error::from_errno("sigaction"));
  return {};
}

void unblock_kick_signal() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, kick_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace

Result<std::unique_ptr<VcpuThread>> VcpuThread::create(const Vm& vm, VcpuBuses buses, Config config) {
  STRATO_TRY(install_kick_handler());
  std::unique_ptr<VcpuThread> vcpu_thread(new VcpuThread(vm, buses, std::move(config)));
  VcpuThread* self = vcpu_thread.get();
  self->thread_ = STRATO_TRY(Thread::start(fmt::format("CPU {}/KVM", self->index_), [self] { self->body(); }));
  return vcpu_thread;
}

VcpuThread::VcpuThread(const Vm& vm, VcpuBuses buses, Config config)
    : vm_(vm),
      buses_(buses),
      index_(config.index),
      id_(config.id),
      setup_(std::move(config.setup)),
      on_end_(std::move(config.on_end)) {}

Result<> VcpuThread::wait_created() {
  MutexLock lock(mutex_);
  while (!created_) changed_.wait(mutex_);
  return *created_;
}

VcpuThread::State VcpuThread::state() const {
  MutexLock lock(mutex_);
  return state_;
}

// Only a vCPU that runs needs it: everywhere else the thread looks at wanted_ before it goes on.
void VcpuThread::kick() {
  if (state_ == State::Running) {
    vcpu_->request_exit();
    ::pthread_kill(thread_.handle(), kick_signal());
  }
  changed_.notify_all();
}

void VcpuThread::resume() {
  MutexLock lock(mutex_);
  if (wanted_ == Wanted::Stop) return;
  wanted_ = Wanted::Run;
  changed_.notify_all();
}

void VcpuThread::park(Done done) {
  {
    MutexLock lock(mutex_);
    if (wanted_ == Wanted::Run) wanted_ = Wanted::Park;
    if (state_ == State::Running || state_ == State::Creating) {
      parked_callbacks_.push_back(std::move(done));
      kick();
      return;
    }
  }
  done();
}

void VcpuThread::stop() {
  {
    MutexLock lock(mutex_);
    wanted_ = Wanted::Stop;
    kick();
  }
  thread_.join();
}

void VcpuThread::run_parked(std::move_only_function<void(Vcpu&)> job) {
  MutexLock lock(mutex_);
  STRATO_ASSERT(wanted_ != Wanted::Run);
  jobs_.push_back(std::move(job));
  changed_.notify_all();
}

Result<> VcpuThread::run_parked_and_wait(std::move_only_function<Result<>(Vcpu&)> job) {
  std::optional<Result<>> answer;
  run_parked([this, &answer, &job](Vcpu& vcpu) {
    Result<> outcome = job(vcpu);
    MutexLock lock(mutex_);
    answer = std::move(outcome);
    changed_.notify_all();
  });
  MutexLock lock(mutex_);
  while (!answer && state_ != State::Stopped) changed_.wait(mutex_);
  if (!answer) {
    jobs_.clear();  // they point here
    return std::unexpected(Error::busy(fmt::format("vCPU {} has stopped", index_)));
  }
  return *std::move(answer);
}

void VcpuThread::body() {
  thread_id_ = ::gettid();
  unblock_kick_signal();
  Result<> outcome = set_up();
  const bool usable = outcome.has_value();
  if (!usable) publish_creation(std::move(outcome));

  while (usable && wait_for_work()) run_until_interrupted();
}

Result<> VcpuThread::set_up() {
  vcpu_ = STRATO_TRY(Vcpu::create(vm_, id_, buses_));
  if (setup_) {
    STRATO_TRY(setup_(*vcpu_));
    setup_ = nullptr;
  }
  return {};
}

// Of a vCPU that could not be made: the thread ends.
void VcpuThread::publish_creation(Result<> outcome) {
  std::vector<Done> callbacks;
  {
    MutexLock lock(mutex_);
    created_ = std::move(outcome);
    state_ = State::Stopped;
    callbacks = std::move(parked_callbacks_);
    changed_.notify_all();
  }
  for (Done& done : callbacks) done();
}

// Parks, and returns true when the guest is to run, false when the thread is to end.
bool VcpuThread::wait_for_work() {
  std::vector<Done> callbacks;
  {
    MutexLock lock(mutex_);
    state_ = State::Parked;
    vcpu_->clear_exit_request();
    if (!created_) created_.emplace();
    callbacks = std::move(parked_callbacks_);
    parked_callbacks_.clear();
    changed_.notify_all();
  }
  for (Done& done : callbacks) done();

  for (;;) {
    std::vector<std::move_only_function<void(Vcpu&)>> jobs;
    {
      MutexLock lock(mutex_);
      while (jobs_.empty() && wanted_ == Wanted::Park) changed_.wait(mutex_);
      if (jobs_.empty()) {
        state_ = wanted_ == Wanted::Run ? State::Running : State::Stopped;
        changed_.notify_all();
        return state_ == State::Running;
      }
      jobs = std::move(jobs_);
      jobs_.clear();
    }
    for (auto& job : jobs) job(*vcpu_);
  }
}

void VcpuThread::run_until_interrupted() {
  if (std::exchange(ran_before_, true)) announce_pause(*vcpu_);
  for (;;) {
    const Result<VcpuExit> exit = vcpu_->run();
    if (!exit) {
      return finish({.kind = VcpuEnd::Kind::Error,
                     .text = fmt::format("vCPU {}: {}\n{}", index_, exit.error().text(), describe_vcpu(*vcpu_))});
    }
    switch (*exit) {
      case VcpuExit::Interrupted: {
        MutexLock lock(mutex_);
        if (wanted_ != Wanted::Run) return;
        vcpu_->clear_exit_request();
        break;
      }
      case VcpuExit::Halted:
        return finish({.kind = VcpuEnd::Kind::Error,
                       .text = fmt::format("vCPU {}: halted without an interrupt controller\n{}", index_,
                                           describe_vcpu(*vcpu_))});
      case VcpuExit::Shutdown:
        return finish({.kind = VcpuEnd::Kind::Shutdown, .text = fmt::format("vCPU {}: triple fault", index_)});
      case VcpuExit::SystemEvent:
        return finish({.kind = VcpuEnd::Kind::SystemEvent,
                       .system_event = vcpu_->system_event(),
                       .text = fmt::format("vCPU {}: system event {}", index_, vcpu_->system_event())});
    }
  }
}

void VcpuThread::finish(VcpuEnd end) {
  {
    MutexLock lock(mutex_);
    if (wanted_ == Wanted::Run) wanted_ = Wanted::Park;
  }
  if (on_end_) on_end_(std::move(end));
}

}  // namespace strato
