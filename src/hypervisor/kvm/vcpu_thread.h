// The thread of one vCPU: creates the vCPU, runs it, parks it.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/thread.h"
#include "bus/component.h"
#include "hypervisor/kvm/vcpu.h"

namespace strato {

// Why a vCPU parked by itself.
struct VcpuEnd {
  enum class Kind : uint8_t {
    Shutdown,  // triple fault
    SystemEvent,
    Error,  // KVM gave up: `text` has the cause and the registers, several lines
  };
  Kind kind = Kind::Error;
  uint32_t system_event = 0;  // KVM_SYSTEM_EVENT_*
  std::string text;
};

// Threads: everything but what is marked otherwise on the control loop.
// A parked vCPU has finished its pending exit: a device access whose answer KVM has not taken yet is completed by one
// more KVM_RUN that does not enter the guest.
class VcpuThread {
 public:
  enum class State : uint8_t { Creating, Parked, Running, Stopped };

  struct Config {
    uint32_t index = 0;  // for the name, "CPU N/KVM"
    uint32_t id = 0;     // KVM's
    // Runs on the new thread once the vCPU exists (registers, restored state). An error stops the thread and comes out
    // of wait_created().
    std::move_only_function<Result<>(Vcpu&)> setup;
    // Called on the vCPU's thread, which is parked from then on (resume() would run it again).
    std::move_only_function<void(VcpuEnd)> on_end;
  };

  // Returns while the thread is still at work: start all of them, then wait for each.
  static Result<std::unique_ptr<VcpuThread>> create(const Vm& vm, VcpuBuses buses, Config config);
  ~VcpuThread() { stop(); }
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;

  // Waits until the vCPU is set up and parked.
  Result<> wait_created();
  void resume();
  // `done` is called when it is parked: on the vCPU's thread, or at once when it already is or has stopped.
  void park(Done done);
  // Joins. A vCPU that was running is left where it is. May be repeated.
  void stop();

  // Runs `job` on the vCPU's thread, before anything else that it does; the vCPU is parked. Returns at once.
  void run_parked(std::move_only_function<void(Vcpu&)> job);
  // The same, waiting for the answer.
  Result<> run_parked_and_wait(std::move_only_function<Result<>(Vcpu&)> job);

  State state() const;
  uint32_t index() const { return index_; }
  // gettid() of the thread; valid after wait_created().
  pid_t thread_id() const { return thread_id_; }

 private:
  enum class Wanted : uint8_t { Park, Run, Stop };

  VcpuThread(const Vm& vm, VcpuBuses buses, Config config);
  void body();
  Result<> set_up();
  void publish_creation(Result<> outcome);
  bool wait_for_work();
  void run_until_interrupted();
  void finish(VcpuEnd end);
  void kick() STRATO_REQUIRES(mutex_);

  const Vm& vm_;
  const VcpuBuses buses_;
  const uint32_t index_;
  const uint32_t id_;
  std::move_only_function<Result<>(Vcpu&)> setup_;
  std::move_only_function<void(VcpuEnd)> on_end_;
  std::unique_ptr<Vcpu> vcpu_;  // the vCPU thread's, but for request_exit()
  pid_t thread_id_ = 0;
  bool ran_before_ = false;  // vCPU thread

  mutable Mutex mutex_;
  CondVar changed_;
  State state_ STRATO_GUARDED_BY(mutex_) = State::Creating;
  Wanted wanted_ STRATO_GUARDED_BY(mutex_) = Wanted::Park;
  std::optional<Result<>> created_ STRATO_GUARDED_BY(mutex_);
  std::vector<Done> parked_callbacks_ STRATO_GUARDED_BY(mutex_);
  std::vector<std::move_only_function<void(Vcpu&)>> jobs_ STRATO_GUARDED_BY(mutex_);

  Thread thread_;  // last: joined before the rest goes
};

}  // namespace strato
