// What virtio-blk itself costs per request: the device before a disk in memory, from the doorbell to the interrupt,
// with split and packed rings. The floor is the same reads as bare memcpy. The driver's own work is not measured.
//   block_device_bench [REQUESTS]      thousands for each line; 200 if not given
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "devices/virtio_block.h"
#include "event/clock.h"
#include "testing/eager_disk.h"
#include "testing/fake_driver.h"
#include "testing/queue_host.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::QueueHost;

constexpr uint32_t kBlockBytes = 4096;
constexpr uint64_t kDiskBytes = 2 * kMiB;  // stays in the processor's cache
constexpr uint32_t kRounds = 5;  // of which the fastest counts: what is measured is the code, not the neighbours

struct Load {
  bool packed;
  bool indirect;
  uint32_t depth;
};

uint64_t sector_of(uint64_t number) {
  return number * 7919 % (kDiskBytes / kBlockBytes) * (kBlockBytes / kBlockSectorBytes);
}

double floor_ns(uint64_t requests) {
  const MonotonicClock clock;
  const std::vector<std::byte> disk(kDiskBytes, std::byte{0x5a});
  std::vector<std::byte> buffers(kDiskBytes);
  const uint64_t start = clock.now_ns();
  for (uint64_t i = 0; i < requests; ++i) {
    std::memcpy(buffers.data() + i * kBlockBytes % kDiskBytes, disk.data() + sector_of(i) * kBlockSectorBytes,
                kBlockBytes);
    asm volatile("" : : "r"(buffers.data()) : "memory");
  }
  return static_cast<double>(clock.now_ns() - start) / static_cast<double>(requests);
}

double device_ns(const Load& load, uint64_t requests) {
  const MonotonicClock clock;
  QueueHost host(0, 8 * kMiB);
  FakeDriver driver(host.ram, {.size = 256, .packed = load.packed, .event_idx = true, .limit = 8 * kMiB});
  Block block({.name = "bench", .disk = std::make_shared<EagerDisk>(kDiskBytes)}, std::nullopt);
  block.start(block.features() | kFeatureVersion1);
  host.start_queue(block, *Queue::create(host.ram.memory(), driver.config()));
  uint64_t spent = 0;
  for (uint64_t done = 0; done < requests; done += load.depth) {
    for (uint32_t i = 0; i < load.depth; ++i) {
      const BlockHeader header{.type = kBlockTypeIn, .reserved = uint32_t{0}, .sector = sector_of(done + i)};
      FakeDriver::Request request = driver.chain();
      request.readable_obj(header).writable(kBlockBytes).writable(1);
      if (load.indirect) request.indirect();
      request.submit();
    }
    const uint64_t start = clock.now_ns();
    host.ring();
    spent += clock.now_ns() - start;
    STRATO_ASSERT(driver.take_used().size() == load.depth);
  }
  block.reset([] {});
  host.turn();
  return static_cast<double>(spent) / static_cast<double>(requests);
}

int run(uint64_t requests) {
  double floor = floor_ns(requests);
  for (uint32_t i = 1; i < kRounds; ++i) floor = std::min(floor, floor_ns(requests));
  fmt::print("4 KiB reads of a disk in memory, ns per request; in brackets: to memcpy ({:.0f} ns)\n", floor);
  fmt::print("{:>6} {:>9} {:>16} {:>16} {:>14}\n", "depth", "chains", "split", "packed", "packed/split");
  for (const uint32_t depth : {1U, 32U}) {
    for (const bool indirect : {false, true}) {
      double best[2] = {1e12, 1e12};
      for (uint32_t round = 0; round < kRounds; ++round) {  // in turn, so that both see the same neighbours
        for (const bool packed : {false, true}) {
          const Load load{.packed = packed, .indirect = indirect, .depth = depth};
          best[packed] = std::min(best[packed], device_ns(load, requests));
        }
      }
      fmt::print("{:>6} {:>9} {:>8.0f} ({:4.1f}) {:>9.0f} ({:4.1f}) {:>14.2f}\n", depth,
                 indirect ? "indirect" : "direct", best[0], best[0] / floor, best[1], best[1] / floor,
                 best[1] / best[0]);
    }
  }
  return 0;
}

}  // namespace
}  // namespace strato::virtio

int main(int argc, char** argv) {
  uint64_t thousands = 200;
  const std::string_view word = argc > 1 ? argv[1] : "200";
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), thousands);
  if (argc > 2 || error != std::errc{} || end != word.data() + word.size() || thousands == 0) {
    fmt::print("usage: block_device_bench [REQUESTS in thousands]\n");
    return 2;
  }
  return strato::virtio::run(thousands * 1000);
}
