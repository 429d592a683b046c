// Numbers and layouts of virtio 1.2 §5.2 that device, tests and fuzz targets share.
#pragma once

#include <cstdint>

#include "base/endian.h"

namespace strato::virtio {

// The unit of everything in the interface, whatever the block size is.
inline constexpr uint64_t kBlockSectorBytes = 512;
inline constexpr size_t kBlockIdBytes = 20;

// §5.2.3, as masks.
inline constexpr uint64_t kBlockFeatureSegMax = uint64_t{1} << 2;
inline constexpr uint64_t kBlockFeatureReadOnly = uint64_t{1} << 5;
inline constexpr uint64_t kBlockFeatureBlockSize = uint64_t{1} << 6;
inline constexpr uint64_t kBlockFeatureFlush = uint64_t{1} << 9;
inline constexpr uint64_t kBlockFeatureTopology = uint64_t{1} << 10;
inline constexpr uint64_t kBlockFeatureConfigWce = uint64_t{1} << 11;
inline constexpr uint64_t kBlockFeatureMultiQueue = uint64_t{1} << 12;
inline constexpr uint64_t kBlockFeatureDiscard = uint64_t{1} << 13;
inline constexpr uint64_t kBlockFeatureWriteZeroes = uint64_t{1} << 14;

// §5.2.4, as far as our features reach.
struct BlockConfigSpace {
  le64 capacity;  // sectors
  le32 size_max;
  le32 seg_max;
  le16 cylinders;
  uint8_t heads;
  uint8_t sectors;
  le32 blk_size;  // bytes
  uint8_t physical_block_exp;
  uint8_t alignment_offset;
  le16 min_io_size;  // blocks
  le32 opt_io_size;
  uint8_t writeback;
  uint8_t unused0;
  le16 num_queues;
  le32 max_discard_sectors;
  le32 max_discard_seg;
  le32 discard_sector_alignment;
  le32 max_write_zeroes_sectors;
  le32 max_write_zeroes_seg;
  uint8_t write_zeroes_may_unmap;
  uint8_t unused1[3];
};
static_assert(sizeof(BlockConfigSpace) == 60);

// §5.2.6
inline constexpr uint32_t kBlockTypeIn = 0;
inline constexpr uint32_t kBlockTypeOut = 1;
inline constexpr uint32_t kBlockTypeFlush = 4;
inline constexpr uint32_t kBlockTypeGetId = 8;
inline constexpr uint32_t kBlockTypeDiscard = 11;
inline constexpr uint32_t kBlockTypeWriteZeroes = 13;

struct BlockHeader {
  le32 type;
  le32 reserved;
  le64 sector;
};
static_assert(sizeof(BlockHeader) == 16);

inline constexpr uint32_t kBlockSegmentUnmap = 1;

struct BlockSegment {
  le64 sector;
  le32 num_sectors;
  le32 flags;
};
static_assert(sizeof(BlockSegment) == 16);

enum class BlockStatus : uint8_t { Ok = 0, IoError = 1, Unsupported = 2 };

}  // namespace strato::virtio
