// A virtio-vsock device with a driver of its own and host programs on real unix sockets, on one thread.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "devices/virtio_vsock.h"
#include "state/format.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"

namespace strato::testing {

struct VsockFixture {
  static constexpr size_t kReceive = 0;
  static constexpr size_t kTransmit = 1;
  static constexpr size_t kEvents = 2;
  static constexpr uint64_t kCid = 42;
  static constexpr uint64_t kQueueBytes = 0x200000;

  // A packet that came to the guest.
  struct Packet {
    virtio::VsockOp op{};
    uint32_t host = 0;
    uint32_t guest = 0;
    uint32_t flags = 0;
    uint32_t buf_alloc = 0;
    uint32_t fwd_cnt = 0;
    uint16_t type = 0;
    std::string payload{};
  };
  // What the guest says; mostly right.
  struct Say {
    virtio::VsockOp op{};
    uint32_t host = 0;
    uint32_t guest = 0;
    uint32_t flags = 0;
    uint32_t buf_alloc = 256 * 1024;
    uint32_t fwd_cnt = 0;
    std::string_view payload{};
  };

  explicit VsockFixture(FakeDriver::Options options = {}) {
    std::string pattern = "/tmp/strato-vsock-XXXXXX";
    STRATO_ASSERT(::mkdtemp(pattern.data()) != nullptr);
    folder = pattern;
    path = folder + "/v";
    for (size_t i = 0; i < 3; ++i) {
      options.base = 0x10000 + i * kQueueBytes;
      options.limit = options.base + kQueueBytes;
      drivers.emplace_back(ram, options);
    }
  }
  ~VsockFixture() {
    if (device != nullptr) reset();
    device.reset();
    for (const std::string& listener : listener_paths) ::unlink(listener.c_str());
    ::rmdir(folder.c_str());
  }

  // --- life cycle
  Result<> try_make(const std::optional<virtio::VsockState>& state) {
    Result<ListeningSocket> listening =
        ListeningSocket::open({.path = path, .host = {}}, {.backlog = 512, .keep_used_path = true});
    STRATO_ASSERT(listening.has_value());
    device = STRATO_TRY(
        virtio::Vsock::create({.name = "vsock", .guest_cid = kCid, .listening = *std::move(listening)}, state));
    return {};
  }
  void make(const std::optional<virtio::VsockState>& state = std::nullopt) {
    STRATO_ASSERT(try_make(state).has_value());
  }
  void start() {
    device->start(virtio::kFeatureVersion1);
    for (size_t i = 0; i < 3; ++i) start(i, *virtio::Queue::create(ram.memory(), drivers[i].config()));
    turn();
  }
  void start(size_t index, virtio::Queue queue) {
    STRATO_ASSERT(
        device
            ->start_queue(index,
                          {.queue = std::move(queue), .interrupt = line, .doorbell = doorbells[index], .loop = *loop})
            .has_value());
  }
  std::vector<virtio::Queue> stop_queues() {
    std::vector<virtio::Queue> queues;
    for (size_t i = 0; i < 3; ++i) {
      device->stop_queue(i, [&queues](virtio::Queue queue) { queues.push_back(std::move(queue)); });
    }
    turn();
    device->pause([] {});
    STRATO_ASSERT(queues.size() == 3);
    return queues;
  }
  void resume(std::vector<virtio::Queue> queues) {
    device->resume();
    device->start(virtio::kFeatureVersion1);
    for (size_t i = 0; i < 3; ++i) start(i, std::move(queues[i]));
    turn();
  }
  void pause_and_resume() { resume(stop_queues()); }
  // Another device with the same state goes on with the queues.
  void save_and_restore() {
    std::vector<virtio::Queue> queues = stop_queues();
    for (const virtio::Queue& queue : queues) STRATO_ASSERT(queue.unfinished() == 0);
    const Result<std::vector<std::byte>> saved = device->save();
    STRATO_ASSERT(saved.has_value());
    device.reset();
    make(*state::from_bytes<virtio::VsockState>(*saved));
    STRATO_ASSERT(*device->save() == *saved);
    resume(std::move(queues));
  }
  void reset() {
    bool done = false;
    device->reset([&done] { done = true; });
    turn();
    STRATO_ASSERT(done);
  }
  // A driver that begins anew.
  void restart() {
    reset();
    for (FakeDriver& driver : drivers) driver.reset();
    buffers.clear();
    start();
  }
  // Until nothing happens any more; a round may leave work for the next one's start.
  void turn() {
    for (int quiet = 0; quiet < 2;) quiet = loop->run_once(0) == 0 ? quiet + 1 : 0;
  }
  void ring(size_t queue) {
    doorbells[queue].ring();
    turn();
  }

  // --- the driver
  void give_buffers(size_t count, uint32_t bytes = 4096) {
    for (size_t i = 0; i < count && drivers[kReceive].free_slots() >= 2; ++i) {
      const auto sent = drivers[kReceive].chain().writable(sizeof(virtio::VsockHeader)).writable(bytes).submit();
      buffers[sent.id] = sent.addresses;
    }
    ring(kReceive);
  }
  void give_event_buffers(size_t count, uint32_t bytes = sizeof(virtio::VsockEvent)) {
    for (size_t i = 0; i < count; ++i) drivers[kEvents].chain().writable(bytes).submit();
    ring(kEvents);
  }
  static virtio::VsockHeader header(const Say& say) {
    virtio::VsockHeader header;
    header.src_cid = kCid;
    header.dst_cid = virtio::kVsockHostCid;
    header.src_port = say.guest;
    header.dst_port = say.host;
    header.len = static_cast<uint32_t>(say.payload.size());
    header.type = virtio::kVsockTypeStream;
    header.op = static_cast<uint16_t>(say.op);
    header.flags = say.flags;
    header.buf_alloc = say.buf_alloc;
    header.fwd_cnt = say.fwd_cnt;
    return header;
  }
  void say(const Say& what) { say_raw(header(what), what.payload); }
  void say_raw(const virtio::VsockHeader& header, std::string_view payload = {}) {
    FakeDriver::Request request = drivers[kTransmit].chain();
    request.readable_obj(header);
    if (!payload.empty()) request.readable(std::as_bytes(std::span(payload)));
    request.submit();
    ring(kTransmit);
    drivers[kTransmit].take_used();
  }
  // What has come to the guest since; its buffers do not go back by themselves.
  std::vector<Packet> heard() {
    std::vector<Packet> packets;
    for (const FakeDriver::Used& used : drivers[kReceive].take_used()) {
      const auto found = buffers.find(static_cast<uint16_t>(used.id));
      STRATO_ASSERT(found != buffers.end());
      if (used.len < sizeof(virtio::VsockHeader)) continue;
      const auto header = drivers[kReceive].load<virtio::VsockHeader>(found->second[0]);
      STRATO_ASSERT(header.src_cid.get() == virtio::kVsockHostCid && header.dst_cid.get() == kCid);
      STRATO_ASSERT(used.len == sizeof(header) + header.len.get());
      Packet& packet = packets.emplace_back();
      packet.op = static_cast<virtio::VsockOp>(header.op.get());
      packet.host = header.src_port.get();
      packet.guest = header.dst_port.get();
      packet.flags = header.flags.get();
      packet.buf_alloc = header.buf_alloc.get();
      packet.fwd_cnt = header.fwd_cnt.get();
      packet.type = header.type.get();
      for (const std::byte byte : drivers[kReceive].bytes_at(found->second[1], header.len.get())) {
        packet.payload.push_back(static_cast<char>(byte));
      }
    }
    return packets;
  }

  // --- host programs
  UniqueFd connect_program() {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_un to = address(path);
    STRATO_ASSERT(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    return socket;
  }
  // One that listens at a host port.
  UniqueFd listen_program(uint32_t port, int backlog = 512) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    listener_paths.push_back(path + "_" + std::to_string(port));
    const sockaddr_un at = address(listener_paths.back());
    ::unlink(at.sun_path);
    STRATO_ASSERT(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    STRATO_ASSERT(::listen(socket.get(), backlog) == 0);
    return socket;
  }
  // Invalid: nobody is there.
  static UniqueFd accept_program(const UniqueFd& listener) {
    return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  }
  // Returns how many bytes went out.
  size_t program_sends(const UniqueFd& socket, std::string_view text) {
    const ssize_t sent = ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
    turn();
    return sent < 0 ? 0 : static_cast<size_t>(sent);
  }
  // What is there now.
  std::string program_reads(const UniqueFd& socket, size_t limit = SIZE_MAX) {
    std::string all;
    std::array<char, 65536> piece;
    while (all.size() < limit) {
      const ssize_t got = ::recv(socket.get(), piece.data(), std::min(piece.size(), limit - all.size()), 0);
      if (got <= 0) break;
      all.append(piece.data(), static_cast<size_t>(got));
      turn();
    }
    return all;
  }
  // Whether it has read all and sees the end.
  static bool program_sees_end(const UniqueFd& socket) {
    char byte = 0;
    const ssize_t got = ::recv(socket.get(), &byte, 1, 0);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }
  static sockaddr_un address(const std::string& where) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    STRATO_ASSERT(where.size() < sizeof to.sun_path);
    std::memcpy(to.sun_path, where.data(), where.size());
    return to;
  }

  std::string folder;
  std::string path;
  std::vector<std::string> listener_paths;
  ManualClock clock;
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram{8 * kMiB};
  std::vector<FakeDriver> drivers;
  std::array<FakeDoorbell, 3> doorbells;
  FakeVector line;
  std::map<uint16_t, std::vector<uint64_t>> buffers;  // of the receive queue, by id
  std::unique_ptr<virtio::Vsock> device;
};

}  // namespace strato::testing
