#include "qmp/machine_control.h"

#include <utility>

namespace strato {

std::string_view to_string(RunState state) {
  switch (state) {
    case RunState::Prelaunch:
      return "prelaunch";
    case RunState::InMigrate:
      return "inmigrate";
    case RunState::Running:
      return "running";
    case RunState::Paused:
      return "paused";
    case RunState::IoError:
      return "io-error";
    case RunState::SaveVm:
      return "save-vm";
    case RunState::PostMigrate:
      return "postmigrate";
    case RunState::Shutdown:
      return "shutdown";
    case RunState::InternalError:
      return "internal-error";
  }
  std::unreachable();
}

std::string_view to_string(ShutdownCause cause) {
  switch (cause) {
    case ShutdownCause::HostError:
      return "host-error";
    case ShutdownCause::HostQmpQuit:
      return "host-qmp-quit";
    case ShutdownCause::HostSignal:
      return "host-signal";
    case ShutdownCause::HostUi:
      return "host-ui";
    case ShutdownCause::GuestShutdown:
      return "guest-shutdown";
    case ShutdownCause::GuestReset:
      return "guest-reset";
    case ShutdownCause::GuestPanic:
      return "guest-panic";
  }
  std::unreachable();
}

bool caused_by_guest(ShutdownCause cause) {
  return cause == ShutdownCause::GuestShutdown || cause == ShutdownCause::GuestReset ||
         cause == ShutdownCause::GuestPanic;
}

std::string_view to_string(MigrationStatus status) {
  switch (status) {
    case MigrationStatus::None:
      return "none";
    case MigrationStatus::Active:
      return "active";
    case MigrationStatus::Completed:
      return "completed";
    case MigrationStatus::Failed:
      return "failed";
  }
  std::unreachable();
}

}  // namespace strato
