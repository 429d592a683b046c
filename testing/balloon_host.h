// A virtio-balloon with a driver for each of its queues, all on one loop, over RAM that reads 1 everywhere but where
// the rings and buffers lie: those are below kRings.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "devices/virtio_balloon.h"
#include "testing/queues_host.h"

namespace strato::testing {

class BalloonHost : public QueuesHost<virtio::Balloon> {
 public:
  static constexpr uint64_t kRamBytes = 16 * kMiB;
  static constexpr uint64_t kRings = 5 * kMiB;

  struct Options {
    bool packed = false;
    bool event_idx = false;
    bool page_reporting = true;
    std::optional<virtio::Balloon::Automatic> automatic{};
    uint64_t page_bytes = host_page_size();
  };

  explicit BalloonHost(const Options& with) : QueuesHost(kRamBytes, with.page_bytes), options(with) {
    const size_t queues = with.page_reporting ? 5 : 3;
    for (size_t index = 0; index < queues; ++index) {
      add_driver({.size = 16,
                  .packed = with.packed,
                  .event_idx = with.event_idx,
                  .base = index * kMiB + 0x10000,
                  .limit = (index + 1) * kMiB});
    }
    STRATO_ASSERT(ram.memory()->fill(GuestAddr(kRings), kRamBytes - kRings, std::byte{1}).has_value());
    make(std::nullopt);
  }
  ~BalloonHost() {
    reset();
    device.reset();
  }

  FakeDriver& inflate() { return *drivers[0]; }
  FakeDriver& deflate() { return *drivers[1]; }
  FakeDriver& statistics() { return *drivers[2]; }
  FakeDriver& reports() { return *drivers[3]; }

  void make(const std::optional<virtio::BalloonState>& state) {
    device = std::make_unique<virtio::Balloon>(virtio::Balloon::Args{.name = "balloon0",
                                                                     .ram_bytes = kRamBytes,
                                                                     .discard = discard,
                                                                     .deflate_on_oom = true,
                                                                     .page_reporting = options.page_reporting,
                                                                     .automatic = options.automatic,
                                                                     .on_actual = [this] { ++actual_changes; }},
                                               state);
    device->config().on_notify([this] { ++config_changes; });
  }
  // The driver's word on how large the balloon is.
  void write_config(size_t offset, uint32_t value) {
    const le32 wire = value;
    if (device->config().write(offset, std::as_bytes(std::span(&wire, 1)))) device->config_written(offset, 4);
  }
  // §5.5.4, by their numbers.
  uint32_t wanted_pages() const { return device->config().load<le32>(0).get(); }

  static std::vector<std::byte> pages(std::initializer_list<uint32_t> numbers) {
    std::vector<std::byte> bytes;
    for (const uint32_t number : numbers) append(bytes, le32(number));
    return bytes;
  }
  static std::vector<std::byte> run_of_pages(uint32_t first, uint32_t count) {
    std::vector<std::byte> bytes;
    for (uint32_t i = 0; i < count; ++i) append(bytes, le32(first + i));
    return bytes;
  }
  static std::vector<std::byte> stat(virtio::BalloonStatTag tag, uint64_t value) {
    std::vector<std::byte> bytes;
    append(bytes, virtio::BalloonStat{.tag = static_cast<uint16_t>(tag), .value = value});
    return bytes;
  }

  // Whether `count` pages of 4 KiB all read this.
  bool read(uint32_t first, uint32_t count, uint8_t value) const {
    return ram.bytes(first * uint64_t{4096}, count * uint64_t{4096}) ==
           std::vector<std::byte>(count * size_t{4096}, static_cast<std::byte>(value));
  }

  const Options options;
  Discard discard;
  int actual_changes = 0;
  int config_changes = 0;

 private:
  template <WireType T>
  static void append(std::vector<std::byte>& bytes, const T& value) {
    const auto raw = std::as_bytes(std::span(&value, 1));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
};

}  // namespace strato::testing
