// A driver that sends chains of any shape to the parser, mostly valid. Whatever comes: what is accepted lies on the
// disk, in whole blocks, changes no read-only disk, and is as long as the data that came with it.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "devices/virtio_block_request.h"
#include "testing/fake_driver.h"
#include "testing/guest_ram.h"
#include "virtio/queue.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::GuestRam;

BlockRules any_rules(FuzzedDataProvider& input) {
  return {.capacity_sectors = input.ConsumeBool() ? input.ConsumeIntegralInRange<uint64_t>(0, 1U << 22)
                                                  : input.ConsumeIntegral<uint64_t>() >> 9,
          .block_bytes = 512U << input.ConsumeIntegralInRange<uint32_t>(0, 3),
          .read_only = input.ConsumeIntegral<uint8_t>() < 32,
          .discard = input.ConsumeIntegral<uint8_t>() >= 32,
          .write_zeroes = input.ConsumeIntegral<uint8_t>() >= 32};
}

// Mostly one that is on the disk, or just beyond.
uint64_t any_sector(FuzzedDataProvider& input, const BlockRules& rules) {
  if (input.ConsumeIntegral<uint8_t>() >= 0xf0) return input.ConsumeIntegral<uint64_t>();
  const uint64_t block = rules.block_bytes / kBlockSectorBytes;
  const auto sector = input.ConsumeIntegralInRange<uint64_t>(
      0, rules.capacity_sectors + std::min(block, UINT64_MAX - rules.capacity_sectors));
  return input.ConsumeBool() ? sector / block * block : sector;
}

std::vector<std::byte> any_header(FuzzedDataProvider& input, const BlockRules& rules) {
  constexpr uint32_t kTypes[] = {kBlockTypeIn,    kBlockTypeOut,     kBlockTypeFlush,
                                 kBlockTypeGetId, kBlockTypeDiscard, kBlockTypeWriteZeroes};
  BlockHeader header{};
  header.type =
      input.ConsumeIntegral<uint8_t>() == 0xff ? input.ConsumeIntegral<uint32_t>() : input.PickValueInArray(kTypes);
  header.sector = any_sector(input, rules);
  std::vector<std::byte> bytes(sizeof(header));
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (input.ConsumeIntegral<uint8_t>() == 0xff) bytes.resize(input.ConsumeIntegralInRange<size_t>(0, sizeof(header)));
  return bytes;
}

std::vector<std::byte> any_segments(FuzzedDataProvider& input, const BlockRules& rules) {
  std::vector<std::byte> bytes;
  const auto count = input.ConsumeIntegralInRange<size_t>(0, 70);
  for (size_t i = 0; i < count; ++i) {
    BlockSegment segment{};
    segment.sector = any_sector(input, rules);
    segment.num_sectors = input.ConsumeIntegral<uint8_t>() == 0xff
                              ? input.ConsumeIntegral<uint32_t>()
                              : input.ConsumeIntegralInRange<uint32_t>(0, BlockRequest::kMaxRangeSectors + 1);
    segment.flags = input.ConsumeIntegral<uint8_t>() == 0xff ? input.ConsumeIntegral<uint32_t>() : 0;
    const auto raw = std::as_bytes(std::span(&segment, 1));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
  if (input.ConsumeIntegral<uint8_t>() == 0xff) bytes.resize(bytes.size() + 7);
  return bytes;
}

// In one to three pieces.
void add_readable(FuzzedDataProvider& input, FakeDriver::Request& request, std::span<const std::byte> bytes) {
  for (int i = 0; i < 2 && !bytes.empty() && input.ConsumeBool(); ++i) {
    const auto first = input.ConsumeIntegralInRange<size_t>(0, bytes.size());
    request.readable(bytes.first(first));
    bytes = bytes.subspan(first);
  }
  request.readable(bytes);
}

void check(const BlockRequest& request, const BlockRules& rules, uint64_t to_write, uint64_t to_read) {
  const uint64_t disk_bytes = rules.capacity_sectors * kBlockSectorBytes;
  for (const BlockRange& range : request.ranges) {
    STRATO_ASSERT(range.offset <= disk_bytes && range.bytes <= disk_bytes - range.offset);
    STRATO_ASSERT(range.offset % rules.block_bytes == 0 && range.bytes % rules.block_bytes == 0);
  }
  switch (request.action) {
    case BlockAction::Read:
      STRATO_ASSERT(request.ranges.size() == 1 && request.ranges[0].bytes == to_read && to_write == 0);
      return;
    case BlockAction::Write:
      STRATO_ASSERT(request.ranges.size() == 1 && request.ranges[0].bytes == to_write && to_read == 0);
      STRATO_ASSERT(!rules.read_only);
      return;
    case BlockAction::Flush:
      STRATO_ASSERT(request.ranges.empty() && to_write == 0 && to_read == 0);
      return;
    case BlockAction::GetId:
      STRATO_ASSERT(request.ranges.empty() && to_read >= kBlockIdBytes);
      return;
    case BlockAction::Discard:
    case BlockAction::WriteZeroes:
      STRATO_ASSERT(!rules.read_only && to_write == 0 && to_read == 0);
      STRATO_ASSERT(!request.ranges.empty() && request.ranges.size() <= BlockRequest::kMaxRanges);
      STRATO_ASSERT(request.action == BlockAction::Discard ? rules.discard : rules.write_zeroes);
      for (const BlockRange& range : request.ranges) {
        STRATO_ASSERT(range.bytes <= BlockRequest::kMaxRangeSectors * kBlockSectorBytes);
        STRATO_ASSERT(request.action == BlockAction::WriteZeroes || !range.may_unmap);
      }
      return;
  }
}

void run(FuzzedDataProvider& input) {
  static GuestRam ram(8 * kMiB);
  FakeDriver driver(ram, {.size = 16, .packed = input.ConsumeBool(), .limit = 4 * kMiB});
  Queue queue = *Queue::create(ram.memory(), driver.config());
  BlockRequest parsed;  // used again, as the device does
  for (int round = 0; round < 8 && input.remaining_bytes() > 0; ++round) {
    const BlockRules rules = any_rules(input);
    FakeDriver::Request request = driver.chain();
    add_readable(input, request, any_header(input, rules));
    const auto shape = input.ConsumeIntegralInRange<int>(0, 3);
    const uint32_t length =
        (input.ConsumeIntegral<uint8_t>() == 0xff ? 1U : 512U) * input.ConsumeIntegralInRange<uint32_t>(0, 64);
    if (shape == 1) add_readable(input, request, any_segments(input, rules));
    if (shape == 2) add_readable(input, request, std::vector<std::byte>(length));
    if (shape == 3) request.writable(length);
    request.writable(input.ConsumeIntegral<uint8_t>() == 0xff ? 21 : 1);
    request.submit();

    GuestResult<std::optional<Chain>> popped = queue.pop();
    STRATO_ASSERT(popped.has_value() && popped->has_value());
    Chain chain = **std::move(popped);
    STRATO_ASSERT(chain.writer.split_tail(1).has_value());
    const auto accepted = parse_block_request(chain.reader, chain.writer, rules, parsed);
    if (accepted) {
      check(parsed, rules, chain.reader.remaining(), chain.writer.remaining());
    } else {
      STRATO_ASSERT(accepted.error().status != BlockStatus::Ok && !accepted.error().reason.empty());
    }
    queue.push_used(std::move(chain), 0);
    static_cast<void>(queue.publish());
    driver.take_used();
  }
}

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  strato::virtio::run(input);
  return 0;
}
