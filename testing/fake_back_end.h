// A vhost-user back end in the same thread as its front end: listens at a unix path, answers when step() is called,
// serves rings when a test says so, and lies when asked to.
//
//   FakeBackEnd back_end;
//   ... the front end connects to back_end.address() ...
//   while (loop->run_once(0) != 0 || back_end.step()) {}
//   const auto request = back_end.pop(1);
//   back_end.finish(1, *request, bytes);
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "vhost/user_spec.h"
#include "virtio/spec.h"

namespace strato::testing {

class FakeBackEnd {
 public:
  struct Request {
    uint16_t head = 0;
    std::vector<std::byte> readable{};
    std::vector<std::span<std::byte>> writable{};
    size_t room() const {
      size_t bytes = 0;
      for (const std::span<std::byte> piece : writable) bytes += piece.size();
      return bytes;
    }
  };
  struct Received {
    vhost::UserRequest request;
    std::vector<std::byte> payload;
    size_t fds = 0;
  };
  // A whole message of the back end, header included; descriptors that come with it.
  struct Answer {
    std::vector<std::byte> bytes;
    std::vector<int> fds{};
  };

  FakeBackEnd() {
    std::string pattern = "/tmp/strato-back-end-XXXXXX";
    STRATO_ASSERT(::mkdtemp(pattern.data()) != nullptr);
    folder_ = pattern;
    listen();
  }
  ~FakeBackEnd() {
    die();
    listening_.reset();
    ::unlink(address().path.c_str());
    ::rmdir(folder_.c_str());
  }
  FakeBackEnd(const FakeBackEnd&) = delete;
  FakeBackEnd& operator=(const FakeBackEnd&) = delete;

  SocketAddress address() const { return {.path = folder_ + "/socket", .host = {}}; }

  // --- what it is; to be changed before it is asked
  static constexpr uint64_t kAllFeatures =
      virtio::kFeatureVersion1 | virtio::kRingFeatures | vhost::kUserFeatureProtocol;
  static constexpr uint64_t kAllProtocol =
      vhost::kUserProtocolMq | vhost::kUserProtocolReplyAck | vhost::kUserProtocolConfig;
  uint64_t features = kAllFeatures;
  uint64_t protocol = kAllProtocol;
  uint64_t queue_count = 2;
  std::vector<std::byte> config = std::vector<std::byte>(64);
  // What it says instead of the truth; nullopt: the truth. An empty answer: nothing at all.
  std::function<std::optional<Answer>(vhost::UserRequest, const Answer& truth)> lie;

  // What it was asked, in order.
  std::vector<Received> received;
  size_t count(vhost::UserRequest request) const {
    size_t found = 0;
    for (const Received& one : received) found += one.request == request ? 1 : 0;
    return found;
  }

  bool connected() const { return socket_.valid(); }
  // The process ends: its socket and all that it had.
  void die() {
    socket_.reset();
    rings_.clear();
    unmap();
  }
  void stop_listening() {
    listening_.reset();
    ::unlink(address().path.c_str());
  }
  void listen() {
    Result<ListeningSocket> opened = ListeningSocket::open(address());
    STRATO_ASSERT(opened.has_value());
    listening_.emplace(*std::move(opened));
  }
  void send(const Answer& answer) { put(answer); }

  // Takes a connection and the messages that are there. False: there was nothing.
  bool step() {
    bool any = false;
    if (!socket_.valid() && listening_) {
      socket_ = listening_->accept();
      any = socket_.valid();
    }
    while (socket_.valid() && take_message()) any = true;
    return any;
  }

  // --- rings
  bool running(size_t index) { return rings_[index].enabled && rings_[index].kick.valid(); }
  bool take_kick(size_t index) {
    uint64_t count = 0;
    return ::read(rings_[index].kick.get(), &count, sizeof count) == sizeof count;
  }
  std::optional<Request> pop(size_t index) {
    Ring& ring = rings_[index];
    if (!ring.ready() || get16(ring.available + 2) == ring.next) return std::nullopt;
    const uint16_t head = get16(ring.available + 4 + 2 * (ring.next % ring.size));
    ++ring.next;
    Request request{.head = head};
    for (uint16_t at = head;;) {
      virtio::SplitDesc desc;
      std::memcpy(&desc, ring.descriptors + 16 * size_t{at}, sizeof desc);
      std::byte* data = guest(desc.addr.get(), desc.len.get());
      if ((desc.flags.get() & virtio::kDescWrite) != 0) {
        request.writable.emplace_back(data, desc.len.get());
      } else {
        request.readable.insert(request.readable.end(), data, data + desc.len.get());
      }
      if ((desc.flags.get() & virtio::kDescNext) == 0) break;
      at = desc.next.get();
    }
    return request;
  }
  // Writes to the request's room, and is done with it.
  void finish(size_t index, const Request& request, std::span<const std::byte> data) {
    const auto bytes = static_cast<uint32_t>(data.size());
    for (const std::span<std::byte> piece : request.writable) {
      const size_t n = std::min(piece.size(), data.size());
      if (n != 0) std::memcpy(piece.data(), data.data(), n);
      data = data.subspan(n);
    }
    use(index, request.head, bytes);
  }
  // Whatever it says.
  void use(size_t index, uint32_t head, uint32_t bytes) {
    Ring& ring = rings_[index];
    const virtio::UsedElement element{.id = head, .len = bytes};
    const uint16_t slot = ring.used_count++;
    std::memcpy(ring.used + 4 + 8 * size_t{static_cast<uint16_t>(slot % ring.size)}, &element, sizeof element);
    publish_used(index, ring.used_count);
  }
  void publish_used(size_t index, uint16_t count) {
    put16(rings_[index].used + 2, count);
    call(index);
  }
  void call(size_t index) { STRATO_ASSERT(::eventfd_write(rings_[index].call.get(), 1) == 0); }
  void suppress_kicks(size_t index, bool suppress) { put16(rings_[index].used, suppress ? 1 : 0); }

  // A whole answer to a request, as a back end that is honest makes it.
  template <class T>
  static Answer answer(vhost::UserRequest request, const T& payload) {
    return raw(request, vhost::kUserVersion | vhost::kUserReply, bytes_of(payload));
  }
  static Answer raw(vhost::UserRequest request, uint32_t flags, const std::vector<std::byte>& payload) {
    Answer made{
        .bytes = bytes_of(vhost::UserHeader{
            .request = std::to_underlying(request), .flags = flags, .size = static_cast<uint32_t>(payload.size())})};
    made.bytes.insert(made.bytes.end(), payload.begin(), payload.end());
    return made;
  }
  template <class T>
  static std::vector<std::byte> bytes_of(const T& value) {
    const auto* data = reinterpret_cast<const std::byte*>(&value);
    return {data, data + sizeof(T)};
  }

 private:
  struct Mapping {
    uint64_t guest_address = 0;
    uint64_t front_address = 0;
    uint64_t bytes = 0;
    std::byte* here = nullptr;
  };
  struct Ring {
    uint32_t size = 0;
    std::byte* descriptors = nullptr;
    std::byte* available = nullptr;
    std::byte* used = nullptr;
    UniqueFd kick{};
    UniqueFd call{};
    bool enabled = false;
    uint16_t next = 0;
    uint16_t used_count = 0;
    bool ready() const { return size != 0 && descriptors != nullptr && kick.valid() && enabled; }
  };

  // Of a ring, where it is aligned: the other side may write it meanwhile.
  static uint16_t get16(std::byte* at) {
    const std::atomic_ref<uint16_t> word(*reinterpret_cast<uint16_t*>(at));
    return std::bit_cast<le16>(word.load(std::memory_order_acquire)).get();
  }
  static void put16(std::byte* at, uint16_t value) {
    const std::atomic_ref<uint16_t> word(*reinterpret_cast<uint16_t*>(at));
    word.store(std::bit_cast<uint16_t>(le16(value)), std::memory_order_release);
  }

  std::byte* guest(uint64_t address, uint64_t bytes) {
    for (const Mapping& mapping : mappings_) {
      const uint64_t offset = address - mapping.guest_address;
      if (offset < mapping.bytes && bytes <= mapping.bytes - offset) return mapping.here + offset;
    }
    STRATO_ASSERT(!"an address that the back end was not told of");
    return nullptr;
  }
  std::byte* front(uint64_t address) {
    for (const Mapping& mapping : mappings_) {
      if (address - mapping.front_address < mapping.bytes) return mapping.here + (address - mapping.front_address);
    }
    STRATO_ASSERT(!"a ring where the back end has no memory");
    return nullptr;
  }
  void unmap() {
    mappings_.insert(mappings_.end(), stale_.begin(), stale_.end());
    for (const Mapping& mapping : mappings_) ::munmap(mapping.here, mapping.bytes);
    mappings_.clear();
    stale_.clear();
  }

  bool take_message() {
    std::array<std::byte, 4096> room{};
    iovec piece{room.data(), sizeof(vhost::UserHeader)};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got <= 0) {
      if (got == 0 || errno != EAGAIN) die();
      return false;
    }
    STRATO_ASSERT(got == sizeof(vhost::UserHeader));
    std::vector<UniqueFd> fds;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
      for (size_t i = 0; i < (part->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
        fds.emplace_back(fd);
      }
    }
    vhost::UserHeader header;
    std::memcpy(&header, room.data(), sizeof header);
    const size_t bytes = header.size.get();
    STRATO_ASSERT(bytes <= room.size());
    STRATO_ASSERT(::recv(socket_.get(), room.data(), bytes, MSG_DONTWAIT) == static_cast<ssize_t>(bytes) || bytes == 0);
    const auto request = static_cast<vhost::UserRequest>(header.request.get());
    received.push_back({request, {room.begin(), room.begin() + static_cast<ptrdiff_t>(bytes)}, fds.size()});
    serve(request, (header.flags.get() & vhost::kUserNeedReply) != 0, received.back().payload, fds);
    return true;
  }

  template <class T>
  static T as(const std::vector<std::byte>& payload) {
    T value;
    STRATO_ASSERT(payload.size() >= sizeof(T));
    std::memcpy(&value, payload.data(), sizeof(T));
    return value;
  }

  void serve(vhost::UserRequest request, bool confirm, const std::vector<std::byte>& payload,
             std::vector<UniqueFd>& fds) {
    using vhost::UserRequest;
    switch (request) {
      case UserRequest::GetFeatures:
        return reply(request, answer(request, le64(features)));
      case UserRequest::GetProtocolFeatures:
        return reply(request, answer(request, le64(protocol)));
      case UserRequest::GetQueueNum:
        return reply(request, answer(request, le64(queue_count)));
      case UserRequest::GetConfig: {
        std::vector<std::byte> out = payload;
        for (size_t i = sizeof(vhost::UserConfigHeader); i < out.size(); ++i) {
          out[i] = config[i - sizeof(vhost::UserConfigHeader)];
        }
        return reply(request, raw(request, vhost::kUserVersion | vhost::kUserReply, out));
      }
      case UserRequest::GetVringBase: {
        const auto state = as<vhost::UserVringState>(payload);
        Ring& ring = rings_[state.index.get()];
        const vhost::UserVringState stopped{.index = state.index.get(), .value = ring.next};
        ring = {};
        return reply(request, answer(request, stopped));
      }
      case UserRequest::SetMemTable:
        map(payload, fds);
        break;
      case UserRequest::SetVringNum:
        rings_[as<vhost::UserVringState>(payload).index.get()].size = as<vhost::UserVringState>(payload).value.get();
        break;
      case UserRequest::SetVringEnable:
        rings_[as<vhost::UserVringState>(payload).index.get()].enabled =
            as<vhost::UserVringState>(payload).value.get() != 0;
        break;
      case UserRequest::SetVringAddr: {
        const auto places = as<vhost::UserVringAddresses>(payload);
        Ring& ring = rings_[places.index.get()];
        ring.descriptors = front(places.descriptors.get());
        ring.available = front(places.available.get());
        ring.used = front(places.used.get());
        break;
      }
      case UserRequest::SetVringKick:
        STRATO_ASSERT(fds.size() == 1);
        rings_[as<le64>(payload).get()].kick = std::move(fds[0]);
        break;
      case UserRequest::SetVringCall:
        STRATO_ASSERT(fds.size() == 1);
        rings_[as<le64>(payload).get()].call = std::move(fds[0]);
        break;
      default:
        break;
    }
    if (confirm) reply(request, answer(request, le64(0)));
  }

  void map(const std::vector<std::byte>& payload, const std::vector<UniqueFd>& fds) {
    // Rings that run go on in what was mapped before.
    stale_.insert(stale_.end(), mappings_.begin(), mappings_.end());
    mappings_.clear();
    const uint32_t count = as<le32>(payload).get();
    STRATO_ASSERT(count == fds.size() && payload.size() == 8 + count * sizeof(vhost::UserMemoryRegion));
    for (uint32_t i = 0; i < count; ++i) {
      vhost::UserMemoryRegion region;
      std::memcpy(&region, payload.data() + 8 + i * sizeof region, sizeof region);
      void* here = ::mmap(nullptr, region.bytes.get(), PROT_READ | PROT_WRITE, MAP_SHARED, fds[i].get(),
                          static_cast<off_t>(region.fd_offset.get()));
      STRATO_ASSERT(here != MAP_FAILED);
      mappings_.push_back({.guest_address = region.guest_address.get(),
                           .front_address = region.our_address.get(),
                           .bytes = region.bytes.get(),
                           .here = static_cast<std::byte*>(here)});
    }
  }

  void reply(vhost::UserRequest request, const Answer& truth) {
    std::optional<Answer> other;
    if (lie) other = lie(request, truth);
    put(other ? *other : truth);
  }

  void put(const Answer& answer) {
    if (answer.bytes.empty() || !socket_.valid()) return;
    iovec piece{const_cast<std::byte*>(answer.bytes.data()), answer.bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (!answer.fds.empty()) {
      STRATO_ASSERT(answer.fds.size() <= 8);
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(answer.fds.size() * sizeof(int));
      cmsghdr* part = CMSG_FIRSTHDR(&message);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(answer.fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(part), answer.fds.data(), answer.fds.size() * sizeof(int));
    }
    (void)::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  std::string folder_;
  std::optional<ListeningSocket> listening_;
  UniqueFd socket_;
  std::vector<Mapping> mappings_;
  std::vector<Mapping> stale_;
  std::map<size_t, Ring> rings_;
};

}  // namespace strato::testing
