// What QMP asks of a machine, and what a machine tells QMP. machine/ implements the first, QMP the second.
// Threads: everything on the control loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/device_config.h"

namespace strato {

// QEMU's RunState, the members that we can be in.
enum class RunState : uint8_t {
  Prelaunch,
  InMigrate,
  Running,
  Paused,
  IoError,  // stopped because a disk failed
  SaveVm,
  PostMigrate,
  Shutdown,
  InternalError
};
std::string_view to_string(RunState state);

// QEMU's ShutdownCause.
enum class ShutdownCause : uint8_t {
  HostError,
  HostQmpQuit,
  HostSignal,
  HostUi,
  GuestShutdown,
  GuestReset,
  GuestPanic
};
std::string_view to_string(ShutdownCause cause);
bool caused_by_guest(ShutdownCause cause);

enum class MigrationStatus : uint8_t { None, Active, Completed, Failed };
std::string_view to_string(MigrationStatus status);

// A request of the guest that a disk could not carry out; it waits for `cont`.
struct BlockError {
  std::string device;  // the id of the drive
  bool read = false;
  int os_errno = 0;
};

// What a guest says of its memory, in QEMU's words.
struct GuestStats {
  struct Value {
    std::string_view name;
    std::optional<uint64_t> value;  // none: it never said
  };
  std::vector<Value> values;
  uint64_t last_update_s = 0;  // since 1970; 0: never
};

// A device whose memory comes and goes.
struct MemoryDeviceInfo {
  std::string id;
  std::string memdev;
  uint64_t address = 0;
  uint64_t block_bytes = 0;
  uint64_t most_bytes = 0;
  uint64_t requested_bytes = 0;  // that the guest shall have of it
  uint64_t plugged_bytes = 0;    // that it has
  bool operator==(const MemoryDeviceInfo&) const = default;
};

class MachineControl {
 public:
  // Called once, now or later, on the control loop.
  using Reply = std::move_only_function<void(Result<>)>;

  virtual ~MachineControl() = default;
  virtual RunState run_state() const = 0;
  // Parks the vCPUs and quiets the devices; at once when nothing runs.
  virtual void stop(Reply reply) = 0;
  // Starts what -S, stop or a saved state left standing. An error when the guest has shut down or failed.
  virtual void cont(Reply reply) = 0;
  // Ends the VM in an orderly way, after the reply is out.
  virtual void quit() = 0;
  // Saves the machine to a directory. The VM is stopped for it, and runs on afterwards when it ran before.
  virtual void save(std::string directory, Reply reply) = 0;
  virtual MigrationStatus migration_status() const = 0;
  // Gives the disk (or device) of this name another size.
  virtual Result<> resize_block(std::string_view name, uint64_t bytes) = 0;
  // Plugs the cable of the netdev (or device) of this name in or out.
  virtual Result<> set_link(std::string_view name, bool up) = 0;
  // Limits the disk (or device) of this name, from now on; if it is in a throttle group, that. `rates` are checked.
  virtual Result<> set_block_rates(std::string_view name, const IoRates& rates) = 0;
  // What the guest has: its RAM without the balloon. None: there is no balloon.
  virtual std::optional<uint64_t> balloon_actual() const = 0;
  // What it shall have. There is a balloon.
  virtual Result<> set_balloon(uint64_t bytes) = 0;
  // Of the balloon of this name; how often the guest is asked, 0: not at all.
  virtual Result<GuestStats> guest_stats(std::string_view id) const = 0;
  virtual Result<uint32_t> stats_interval_s(std::string_view id) const = 0;
  virtual Result<> set_stats_interval(std::string_view id, uint32_t seconds) = 0;
  virtual std::vector<MemoryDeviceInfo> memory_devices() const = 0;
  // Of the memory device of this name; the error says what is wrong with the number.
  virtual Result<> set_requested_memory(std::string_view id, uint64_t bytes) = 0;
  // Of a throttle group.
  virtual Result<IoRates> group_rates(std::string_view id) const = 0;
  virtual Result<> set_group_rates(std::string_view id, const IoRates& rates) = 0;
};

class MachineObserver {
 public:
  virtual ~MachineObserver() = default;
  virtual void on_stop() = 0;
  virtual void on_resume() = 0;
  virtual void on_reset(ShutdownCause cause) = 0;
  virtual void on_shutdown(ShutdownCause cause) = 0;
  // on_stop() follows, unless the machine is being stopped anyway.
  virtual void on_block_error(const BlockError& error) = 0;
  // The other end of a netdev's stream is gone: passt, or who was connected.
  virtual void on_net_disconnect(std::string_view netdev) = 0;
  virtual void on_balloon_change(uint64_t actual_bytes) = 0;
  // How much of a memory device is plugged.
  virtual void on_memory_device_change(std::string_view id, uint64_t plugged_bytes) = 0;
};

}  // namespace strato
