#include "config/drive_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/drive_table.h"

namespace strato {
namespace {

// What the table alone cannot say.
Result<> check(const DriveConfig& drive) {
  if (drive.format == DriveFormat::Qcow2) {
    return std::unexpected(Error::unsupported("format=qcow2: not part of this version"));
  }
  if (drive.aio == DriveAio::Native && !drive.direct) {
    return std::unexpected(Error::invalid("aio=native: needs direct=on"));
  }
  if (drive.aio == DriveAio::Off && drive.direct) {
    return std::unexpected(Error::invalid("aio=off: needs direct=off"));
  }
  if (drive.detect_zeroes == DriveDetectZeroes::Unmap && !drive.discard) {
    return std::unexpected(Error::invalid("detect-zeroes=unmap: needs discard=unmap"));
  }
  STRATO_TRY(check_rates(drive.rates, {.per_second = "throttling.bps-total", .max = "throttling.bps-total-max"},
                         {.per_second = "throttling.iops-total", .max = "throttling.iops-total-max"}));
  if (!drive.throttle_group.empty() && drive.rates != IoRates{}) {
    return std::unexpected(Error::invalid("throttling.group= and limits of its own exclude each other"));
  }
  return {};
}

Result<> check_shared_file(const DriveConfig& drive, std::span<const DriveConfig> before) {
  const auto other = std::ranges::find(before, drive.file, &DriveConfig::file);
  if (other == before.end() || (drive.read_only && other->read_only)) return {};
  return std::unexpected(Error::invalid(
      fmt::format("-drive id={}: file={}: drive '{}' has it too: the file can only be shared with readonly=on",
                  drive.id, drive.file, other->id)));
}

}  // namespace

Result<DriveConfig> parse_drive(const ObjectOptions& options) {
  DriveConfig drive;
  Result<> parsed = parse_object(options, kDriveTable, drive);
  if (parsed) parsed = check(drive);
  if (!parsed) return std::unexpected(std::move(parsed).error().context(fmt::format("-drive: '{}'", options.text)));
  return drive;
}

Result<std::vector<DriveConfig>> parse_drives(std::span<const ObjectOptions> drives) {
  std::vector<DriveConfig> all;
  for (const ObjectOptions& options : drives) {
    DriveConfig drive = STRATO_TRY(parse_drive(options));
    STRATO_TRY(check_shared_file(drive, all));
    all.push_back(std::move(drive));
  }
  return all;
}

const DriveConfig* find_drive(std::span<const DriveConfig> drives, std::string_view id) {
  const auto found = std::ranges::find(drives, id, &DriveConfig::id);
  return found == drives.end() ? nullptr : &*found;
}

}  // namespace strato
