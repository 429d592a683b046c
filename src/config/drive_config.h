// What -drive says, as a typed value; the table is in drive_table.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/device_config.h"
#include "config/object_options.h"

namespace strato {

enum class DriveFormat : uint8_t { Raw, Qcow2 };
enum class DriveAio : uint8_t { Auto, IoUring, Native, Threads, Off };
enum class DriveDetectZeroes : uint8_t { Off, On, Unmap };
enum class DriveLocking : uint8_t { Off, On, Auto };
enum class DriveErrorAction : uint8_t { Report, Stop, Enospc };

struct DriveConfig {
  std::string id{};
  std::string file{};
  DriveFormat format = DriveFormat::Raw;
  bool read_only = false;
  bool direct = true;  // around the host's page cache
  DriveAio aio = DriveAio::Auto;
  bool discard = false;  // the guest's discards give blocks back to the host
  DriveDetectZeroes detect_zeroes = DriveDetectZeroes::Off;
  DriveLocking locking = DriveLocking::Auto;
  DriveErrorAction read_errors = DriveErrorAction::Report;
  DriveErrorAction write_errors = DriveErrorAction::Enospc;
  IoRates rates{};
  std::string throttle_group{};  // the id of a ThrottleGroupConfig, instead of limits of its own
  bool operator==(const DriveConfig&) const = default;
};

// Errors name the option and what is wrong in it.
Result<DriveConfig> parse_drive(const ObjectOptions& options);
// All of them; a file may have several drives only when all are read-only.
Result<std::vector<DriveConfig>> parse_drives(std::span<const ObjectOptions> drives);

// The one with this id, or nullptr.
const DriveConfig* find_drive(std::span<const DriveConfig> drives, std::string_view id);

}  // namespace strato
