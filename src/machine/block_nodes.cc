#include "machine/block_nodes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "block/raw_disk.h"

namespace strato {
namespace {

DiskEngine engine_of(DriveAio aio) {
  switch (aio) {
    case DriveAio::Auto:
      return DiskEngine::Auto;
    case DriveAio::IoUring:
      return DiskEngine::IoUring;
    case DriveAio::Native:
      return DiskEngine::Native;
    case DriveAio::Threads:
    case DriveAio::Off:  // of the first StratoVirt: in the thread that asks, which is not ours to stop
      return DiskEngine::Threads;
  }
  std::unreachable();
}

Locking locking_of(DriveLocking locking) {
  switch (locking) {
    case DriveLocking::Off:
      return Locking::Off;
    case DriveLocking::On:
      return Locking::On;
    case DriveLocking::Auto:
      return Locking::Auto;
  }
  std::unreachable();
}

DetectZeroes detect_zeroes_of(DriveDetectZeroes detect) {
  switch (detect) {
    case DriveDetectZeroes::Off:
      return DetectZeroes::Off;
    case DriveDetectZeroes::On:
      return DetectZeroes::On;
    case DriveDetectZeroes::Unmap:
      return DetectZeroes::Unmap;
  }
  std::unreachable();
}

}  // namespace

Result<std::shared_ptr<Disk>> BlockNodes::open(const DriveConfig& drive) {
  RawDisk::Args args;
  args.path = drive.file;
  args.read_only = drive.read_only;
  args.direct = drive.direct;
  args.engine = engine_of(drive.aio);
  args.locking = locking_of(drive.locking);
  args.discard = drive.discard;
  args.detect_zeroes = detect_zeroes_of(drive.detect_zeroes);
  Result<std::unique_ptr<RawDisk>> disk = RawDisk::open(engines_, std::move(args));
  if (!disk) return std::unexpected(std::move(disk).error().context(fmt::format("-drive id={}", drive.id)));
  return std::shared_ptr<Disk>(*std::move(disk));
}

Result<BlockNodes::Node*> BlockNodes::find(std::string_view name) {
  const auto node =
      std::ranges::find_if(nodes_, [name](const Node& one) { return one.drive == name || one.device_id == name; });
  if (node == nodes_.end()) return std::unexpected(Error::not_found(fmt::format("there is no disk '{}'", name)));
  return &*node;
}

Result<> BlockNodes::set_rates(std::string_view name, const IoRates& rates) {
  const Node* node = STRATO_TRY(find(name));
  node->throttle->set_rates(rates);
  return {};
}

Result<> BlockNodes::resize(std::string_view name, uint64_t bytes) {
  const Node* node = STRATO_TRY(find(name));
  if (bytes % virtio::kBlockSectorBytes != 0) {
    return std::unexpected(Error::invalid(fmt::format("size {}: must be a multiple of 512", bytes)));
  }
  // What a guest has mounted must not lose its end.
  if (bytes < node->disk->capacity_bytes()) {
    return std::unexpected(Error::invalid(
        fmt::format("size {}: less than now ({}); a disk only grows", bytes, node->disk->capacity_bytes())));
  }
  STRATO_TRY(node->disk->resize(bytes));
  node->device->capacity_changed();
  return {};
}

}  // namespace strato
