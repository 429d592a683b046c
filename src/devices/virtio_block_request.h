// A request of virtio-blk as a value: what a chain asks for, checked against the disk, and what is answered. Pure: no
// thread, no disk, no queue.
// Spec:   virtio 1.2 §5.2.6. Missing: GET_LIFETIME, SECURE_ERASE (not offered).
// Limits: kMaxRanges segments of a discard or write-zeroes, kMaxRangeSectors each.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>
#include <vector>

#include "block/disk.h"
#include "devices/virtio_block_spec.h"
#include "virtio/chain.h"

namespace strato::virtio {

// What requests are checked against.
struct BlockRules {
  uint64_t capacity_sectors = 0;
  uint32_t block_bytes = 512;  // requests are multiples of it
  bool read_only = false;
  bool discard = false;  // negotiated
  bool write_zeroes = false;
};

enum class BlockAction : uint8_t { Read, Write, Flush, GetId, Discard, WriteZeroes };

// Bytes of the disk. They lie within its capacity.
struct BlockRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  bool may_unmap = false;
  bool operator==(const BlockRange&) const = default;
};

struct BlockRequest {
  static constexpr uint32_t kMaxRanges = 64;
  static constexpr uint32_t kMaxRangeSectors = 1U << 21;

  BlockAction action = BlockAction::Flush;
  // One for Read and Write, any number up to kMaxRanges for Discard and WriteZeroes. Keeps its memory from request to
  // request.
  std::vector<BlockRange> ranges{};
};

// Why a request is not carried out, and what the driver is told.
struct BlockRefusal {
  BlockStatus status = BlockStatus::IoError;
  std::string_view reason;
};

// The byte that gets the status was cut off `writer`. What a request consists of besides data is taken off `reader`;
// afterwards the whole of `writer` (Read, GetId) or `reader` (Write) is its data.
std::expected<void, BlockRefusal> parse_block_request(ChainReader& reader, ChainWriter& writer, const BlockRules& rules,
                                                      BlockRequest& out);

// Of a request that the disk has finished; 0: well.
BlockStatus block_status(int os_errno);

// What the driver learns of the length (§2.7.8.2: bytes that count from the first writable one): `data` bytes were
// written of `room` before the status byte.
constexpr uint32_t block_used_length(uint64_t data, uint64_t room) {
  return static_cast<uint32_t>(data == room ? data + 1 : data);
}

}  // namespace strato::virtio
