#include "devices/virtio_block_request.h"

#include <cerrno>

namespace strato::virtio {
namespace {

using Parsed = std::expected<void, BlockRefusal>;

Parsed refuse(std::string_view reason, BlockStatus status = BlockStatus::IoError) {
  return std::unexpected(BlockRefusal{status, reason});
}

Parsed add_range(uint64_t sector, uint64_t sectors, bool may_unmap, const BlockRules& rules, BlockRequest& out) {
  const uint64_t block_sectors = rules.block_bytes / kBlockSectorBytes;
  if (sector % block_sectors != 0 || sectors % block_sectors != 0) return refuse("a part of a block");
  if (sectors > rules.capacity_sectors || sector > rules.capacity_sectors - sectors) {
    return refuse("sectors past the end of the disk");
  }
  out.ranges.push_back({sector * kBlockSectorBytes, sectors * kBlockSectorBytes, may_unmap});
  return {};
}

Parsed parse_transfer(uint64_t sector, uint64_t bytes, const BlockRules& rules, BlockRequest& out) {
  if (bytes % kBlockSectorBytes != 0) return refuse("a length that is no multiple of 512");
  return add_range(sector, bytes / kBlockSectorBytes, false, rules, out);
}

// §5.2.6.2: an unknown flag, and UNMAP of a discard, are Unsupported.
Parsed add_segment(const BlockSegment& segment, uint32_t known_flags, const BlockRules& rules, BlockRequest& out) {
  const uint32_t flags = segment.flags.get();
  if ((flags & ~known_flags) != 0) return refuse("a segment with unknown flags", BlockStatus::Unsupported);
  const uint32_t sectors = segment.num_sectors.get();
  if (sectors > BlockRequest::kMaxRangeSectors) return refuse("a segment longer than the limit");
  return add_range(segment.sector.get(), sectors, (flags & kBlockSegmentUnmap) != 0, rules, out);
}

Parsed parse_segments(ChainReader& reader, uint32_t known_flags, const BlockRules& rules, BlockRequest& out) {
  const uint64_t bytes = reader.remaining();
  if (bytes == 0 || bytes % sizeof(BlockSegment) != 0) return refuse("segments of an odd size");
  if (bytes / sizeof(BlockSegment) > BlockRequest::kMaxRanges) return refuse("more segments than the limit");
  while (const GuestResult<BlockSegment> segment = reader.read<BlockSegment>()) {
    const Parsed added = add_segment(*segment, known_flags, rules, out);
    if (!added) return added;
  }
  return {};
}

Parsed parse_body(const BlockHeader& header, ChainReader& reader, ChainWriter& writer, const BlockRules& rules,
                  BlockRequest& out) {
  switch (out.action) {
    case BlockAction::Read:
      return parse_transfer(header.sector.get(), writer.remaining(), rules, out);
    case BlockAction::Write:
      return parse_transfer(header.sector.get(), reader.remaining(), rules, out);
    case BlockAction::Flush:
      return {};
    case BlockAction::GetId:
      if (writer.remaining() < kBlockIdBytes) return refuse("no room for the serial number");
      return {};
    case BlockAction::Discard:
      return parse_segments(reader, 0, rules, out);
    case BlockAction::WriteZeroes:
      return parse_segments(reader, kBlockSegmentUnmap, rules, out);
  }
  std::unreachable();
}

// False: not ours, or not negotiated.
bool find_action(uint32_t type, const BlockRules& rules, BlockAction& action) {
  switch (type) {
    case kBlockTypeIn:
      action = BlockAction::Read;
      return true;
    case kBlockTypeOut:
      action = BlockAction::Write;
      return true;
    case kBlockTypeFlush:
      action = BlockAction::Flush;
      return true;
    case kBlockTypeGetId:
      action = BlockAction::GetId;
      return true;
    case kBlockTypeDiscard:
      action = BlockAction::Discard;
      return rules.discard;
    case kBlockTypeWriteZeroes:
      action = BlockAction::WriteZeroes;
      return rules.write_zeroes;
    default:
      return false;
  }
}

bool changes_the_disk(BlockAction action) {
  return action == BlockAction::Write || action == BlockAction::Discard || action == BlockAction::WriteZeroes;
}

}  // namespace

std::expected<void, BlockRefusal> parse_block_request(ChainReader& reader, ChainWriter& writer, const BlockRules& rules,
                                                      BlockRequest& out) {
  out.ranges.clear();
  const GuestResult<BlockHeader> header = reader.read<BlockHeader>();
  if (!header) return refuse("a header that is too short");
  if (!find_action(header->type.get(), rules, out.action)) {
    return refuse("an unknown type", BlockStatus::Unsupported);
  }
  const bool gives = out.action == BlockAction::Read || out.action == BlockAction::GetId;
  const bool takes = changes_the_disk(out.action);
  if ((!gives && !writer.empty()) || (!takes && !reader.empty())) return refuse("data in the wrong direction");
  // §5.2.6.2: a read-only device fails writes and writes nothing.
  if (takes && rules.read_only) return refuse("a change of a read-only disk");
  return parse_body(*header, reader, writer, rules, out);
}

BlockStatus block_status(int os_errno) {
  if (os_errno == 0) return BlockStatus::Ok;
  return os_errno == EOPNOTSUPP ? BlockStatus::Unsupported : BlockStatus::IoError;
}

}  // namespace strato::virtio
