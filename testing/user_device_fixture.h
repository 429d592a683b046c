// A virtio-fs device with a back end and a driver of its own, on one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "event/event_loop.h"
#include "testing/fake_back_end.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"
#include "vhost/user_device.h"
#include "vhost/user_fs.h"

namespace strato::testing {

struct UserDeviceFixture {
  static constexpr uint64_t kRetryNs = 1'000'000'000;
  static constexpr size_t kQueues = 2;
  static constexpr uint64_t kQueueBytes = 0x200000;

  explicit UserDeviceFixture(bool packed = false, uint32_t queue_size = 64)
      : drivers{FakeDriver(ram, options(0, packed, queue_size)), FakeDriver(ram, options(1, packed, queue_size))} {}
  ~UserDeviceFixture() {
    if (device == nullptr) return;
    bool done = false;
    device->reset([&done] { done = true; });
    turn();
    if (!done) pass(vhost::UserChannel::kAnswerNs);
    STRATO_ASSERT(done);
  }
  UserDeviceFixture(const UserDeviceFixture&) = delete;
  UserDeviceFixture& operator=(const UserDeviceFixture&) = delete;

  static FakeDriver::Options options(size_t queue, bool packed, uint32_t size) {
    return {.size = size,
            .packed = packed,
            .event_idx = true,
            .base = 0x10000 + queue * kQueueBytes,
            .limit = (queue + 1) * kQueueBytes};
  }

  // Both sides, as often as there is something to do.
  void turn() {
    for (int idle = 0; idle < 2;) idle = (loop->run_once(0) != 0) || back_end.step() ? 0 : idle + 1;
  }
  void pass(uint64_t ns) {
    clock.advance_ns(ns);
    turn();
  }

  // What the first exchange comes to.
  Result<vhost::UserConnection> handshake(const vhost::UserNeeds& needs) {
    std::optional<Result<vhost::UserConnection>> ended;
    Result<UniqueFd> socket = start_connecting(back_end.address());
    STRATO_ASSERT(socket.has_value());
    const vhost::UserHandshake exchange(*loop, "fs0", *std::move(socket), needs,
                                        [&ended](auto result) { ended.emplace(std::move(result)); });
    turn();
    if (!ended) pass(vhost::UserChannel::kAnswerNs);
    STRATO_ASSERT(ended.has_value());
    return *std::move(ended);
  }

  void make() {
    const vhost::FsOptions fs{.tag = "share"};
    Result<vhost::UserConnection> connection = handshake(vhost::fs_needs(fs));
    STRATO_ASSERT(connection.has_value());
    vhost::UserDevice::Args args{.name = "fs0",
                                 .driver = "vhost-user-fs-device",
                                 .type = virtio::DeviceType::Fs,
                                 .config = vhost::fs_config(fs),
                                 .queue_sizes = {128, 128},
                                 .end_request = vhost::end_fuse_request,
                                 .address = back_end.address(),
                                 .retry_ns = kRetryNs,
                                 .needs = vhost::fs_needs(fs),
                                 .loop = *loop};
    device = std::make_unique<vhost::UserDevice>(std::move(args), *std::move(connection));
  }
  void start_queue(size_t index, std::optional<virtio::Queue> queue = std::nullopt) {
    if (!queue) queue.emplace(*virtio::Queue::create(ram.memory(), drivers[index].config()));
    const Result<> started = device->start_queue(
        index,
        {.queue = *std::move(queue), .interrupt = interrupts[index], .doorbell = doorbells[index], .loop = *loop});
    STRATO_ASSERT(started.has_value());
  }
  void start() {
    device->start(device->features() | virtio::kFeatureVersion1);
    for (size_t index = 0; index < kQueues; ++index) start_queue(index);
    turn();
  }
  // None: the device does not give it back yet.
  std::optional<virtio::Queue> stop_queue(size_t index) {
    auto back = std::make_shared<std::optional<virtio::Queue>>();
    device->stop_queue(index, [back](virtio::Queue queue) { *back = std::move(queue); });
    turn();
    if (!*back) pass(vhost::UserChannel::kAnswerNs);
    return std::move(*back);
  }

  // --- FUSE
  struct InHeader {
    le32 bytes{40};
    le32 opcode;
    le64 unique;
    std::array<uint8_t, 24> rest{};
  };
  static_assert(sizeof(InHeader) == 40);
  FakeDriver::Submitted ask(uint64_t unique, uint32_t room = 200, size_t queue = 1) {
    auto chain = drivers[queue].chain();
    chain.readable_obj(InHeader{.opcode = 1, .unique = unique});
    if (room != 0) chain.writable(room);
    return chain.submit();
  }
  void ring(size_t queue = 1) {
    doorbells[queue].ring();
    turn();
  }
  // The error in the answer to a request of ask(); 0: there is no answer.
  int32_t error_of(const FakeDriver::Submitted& sent, uint64_t unique) {
    const std::vector<std::byte> out = drivers[1].bytes_at(sent.addresses[1], 16);
    le32 error;
    le64 its_unique;
    std::memcpy(&error, out.data() + 4, 4);
    std::memcpy(&its_unique, out.data() + 8, 8);
    return its_unique.get() == unique ? static_cast<int32_t>(error.get()) : 0;
  }

  ManualClock clock{1};
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram{8 * kMiB, GuestAddr(0), MemfdBacking{}};
  FakeVector interrupts[kQueues];
  FakeDoorbell doorbells[kQueues];
  FakeDriver drivers[kQueues];
  FakeBackEnd back_end;
  std::unique_ptr<vhost::UserDevice> device;
};

}  // namespace strato::testing
