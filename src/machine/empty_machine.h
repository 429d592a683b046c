#pragma once

#include <vector>

#include "machine/machine.h"

namespace strato {

// `-machine none`: a process that answers QMP about the program and has no guest. libvirt asks such a one what the
// program can do.
class EmptyMachine final : public Machine {
 public:
  explicit EmptyMachine(EventLoop& loop) : loop_(loop) {}

  RunState run_state() const override { return RunState::Prelaunch; }
  void stop(Reply reply) override { reply({}); }
  void cont(Reply reply) override { reply(std::unexpected(Error::unsupported("machine none has no guest to run"))); }
  void quit() override { end(ShutdownCause::HostQmpQuit); }
  void save(std::string, Reply reply) override {
    reply(std::unexpected(Error::unsupported("machine none has nothing to save")));
  }
  MigrationStatus migration_status() const override { return MigrationStatus::None; }
  Result<> resize_block(std::string_view, uint64_t) override {
    return std::unexpected(Error::not_found("machine none has no disks"));
  }
  Result<> set_link(std::string_view, bool) override {
    return std::unexpected(Error::not_found("this machine has no network devices"));
  }
  Result<> set_block_rates(std::string_view, const IoRates&) override {
    return std::unexpected(Error::not_found("machine none has no disks"));
  }
  std::optional<uint64_t> balloon_actual() const override { return std::nullopt; }
  Result<> set_balloon(uint64_t) override { return std::unexpected(no_balloon()); }
  Result<GuestStats> guest_stats(std::string_view) const override { return std::unexpected(no_balloon()); }
  Result<uint32_t> stats_interval_s(std::string_view) const override { return std::unexpected(no_balloon()); }
  Result<> set_stats_interval(std::string_view, uint32_t) override { return std::unexpected(no_balloon()); }
  std::vector<MemoryDeviceInfo> memory_devices() const override { return {}; }
  Result<> set_requested_memory(std::string_view, uint64_t) override {
    return std::unexpected(Error::not_found("machine none has no memory devices"));
  }
  Result<IoRates> group_rates(std::string_view) const override {
    return std::unexpected(Error::not_found("machine none has no throttle groups"));
  }
  Result<> set_group_rates(std::string_view, const IoRates&) override {
    return std::unexpected(Error::not_found("machine none has no throttle groups"));
  }

  void add_observer(MachineObserver& observer) override { observers_.push_back(&observer); }
  Result<> start() override { return {}; }
  void end(ShutdownCause cause) override {
    for (MachineObserver* observer : observers_) observer->on_shutdown(cause);
    loop_.stop();
  }
  int exit_code() const override { return 0; }

 private:
  static Error no_balloon() { return Error::not_found("machine none has no balloon"); }

  EventLoop& loop_;
  std::vector<MachineObserver*> observers_;
};

}  // namespace strato
