// A network back end whose frames a test makes and reads. Threads: that of the loops, which is the test's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "net/net_backend.h"

namespace strato::testing {

class FakeNet final : public NetBackend {
 public:
  struct Frame {
    NetHeader header{};
    std::vector<std::byte> bytes{};
    size_t pair = 0;  // it came by
  };

  explicit FakeNet(size_t pairs = 1, uint32_t offloads = kNetChecksum | kNetTso4 | kNetTso6 | kNetTsoEcn | kNetUso)
      : offloads_(offloads), ports_(pairs) {}

  // --- the host's side ---
  // A frame for the guest; it is announced when the device listens.
  void put(std::span<const std::byte> bytes, size_t pair = 0, const NetHeader& header = {}) {
    ports_[pair].waiting.push_back({header, std::vector(bytes.begin(), bytes.end()), pair});
    announce(pair);
  }
  size_t waiting(size_t pair = 0) const { return ports_[pair].waiting.size(); }
  // What the guest has sent since the last call.
  std::vector<Frame> take_sent() { return std::exchange(sent_, {}); }
  // Takes so many frames more, and then none before the next call.
  void take_only(size_t frames) {
    room_ = frames;
    for (Port& port : ports_) {
      if (frames != 0 && std::exchange(port.sender_waits, false)) port.on_room();
    }
  }
  void lose_frames(bool lose) { lose_ = lose; }
  void refuse_to_attach(bool refuse) { refuse_ = refuse; }
  void set_link(bool up) {
    link_up_ = up;
    if (on_link_) on_link_();
  }
  uint32_t asked_offloads() const { return asked_offloads_; }
  size_t used_pairs() const { return used_pairs_; }
  bool listening(size_t pair = 0) const { return ports_[pair].listening; }
  bool attached(size_t pair = 0) const { return ports_[pair].on_frame != nullptr; }

  // --- NetBackend ---
  size_t pairs() const override { return ports_.size(); }
  uint32_t offloads() const override { return offloads_; }
  void set_offloads(uint32_t offloads) override {
    STRATO_ASSERT((offloads & ~offloads_) == 0);
    asked_offloads_ = offloads;
  }
  void use_pairs(size_t count) override {
    STRATO_ASSERT(count >= 1 && count <= ports_.size());
    used_pairs_ = count;
  }
  Result<std::unique_ptr<NetReceiver>> attach_receiver(size_t pair, EventLoop& loop, NetReady on_ready) override {
    STRATO_ASSERT(loop.in_loop_thread());
    if (refuse_) return std::unexpected(Error::busy("no"));
    ports_[pair].loop = &loop;
    ports_[pair].on_frame = std::move(on_ready);
    return std::make_unique<Receiver>(*this, pair);
  }
  Result<std::unique_ptr<NetSender>> attach_sender(size_t pair, EventLoop& loop, NetReady on_ready) override {
    STRATO_ASSERT(loop.in_loop_thread());
    if (refuse_) return std::unexpected(Error::busy("no"));
    ports_[pair].on_room = std::move(on_ready);
    return std::make_unique<Sender>(*this, pair);
  }
  bool link_up() const override { return link_up_; }
  void on_link(std::function<void()> callback) override { on_link_ = std::move(callback); }

 private:
  struct Port {
    std::deque<Frame> waiting{};
    EventLoop* loop = nullptr;
    NetReady on_frame{};
    NetReady on_room{};
    bool listening = false;
    bool sender_waits = false;
  };

  class Receiver final : public NetReceiver {
   public:
    Receiver(FakeNet& net, size_t pair) : net_(net), pair_(pair) {}
    ~Receiver() override {
      net_.ports_[pair_].listening = false;
      net_.ports_[pair_].on_frame = nullptr;
    }
    size_t receive(std::span<const iovec> room) override {
      std::deque<Frame>& waiting = net_.ports_[pair_].waiting;
      if (waiting.empty()) return 0;
      const Frame frame = std::move(waiting.front());
      waiting.pop_front();
      STRATO_ASSERT(room[0].iov_len == sizeof(NetHeader));
      std::memcpy(room[0].iov_base, &frame.header, sizeof(NetHeader));
      std::span<const std::byte> rest = frame.bytes;
      size_t all = 0;
      for (const iovec& piece : room.subspan(1)) {
        all += piece.iov_len;
        const size_t n = std::min(piece.iov_len, rest.size());
        if (n != 0) std::memcpy(piece.iov_base, rest.data(), n);
        rest = rest.subspan(n);
      }
      STRATO_ASSERT(all >= kMaxFrameBytes && rest.empty());
      return sizeof(NetHeader) + frame.bytes.size();
    }
    void listen(bool on) override {
      net_.ports_[pair_].listening = on;
      if (on) net_.announce(pair_);
    }

   private:
    FakeNet& net_;
    const size_t pair_;
  };

  class Sender final : public NetSender {
   public:
    Sender(FakeNet& net, size_t pair) : net_(net), pair_(pair) {}
    ~Sender() override {
      net_.ports_[pair_].sender_waits = false;
      net_.ports_[pair_].on_room = nullptr;
    }
    Sent send(std::span<const iovec> frame) override {
      if (net_.lose_) return Sent::No;
      if (net_.room_ == 0) {
        net_.ports_[pair_].sender_waits = true;
        return Sent::Later;
      }
      --net_.room_;
      STRATO_ASSERT(frame[0].iov_len == sizeof(NetHeader));
      Frame& taken = net_.sent_.emplace_back();
      taken.pair = pair_;
      std::memcpy(&taken.header, frame[0].iov_base, sizeof(NetHeader));
      for (const iovec& piece : frame.subspan(1)) {
        const auto* data = static_cast<const std::byte*>(piece.iov_base);
        taken.bytes.insert(taken.bytes.end(), data, data + piece.iov_len);
      }
      STRATO_ASSERT(taken.bytes.size() <= kMaxFrameBytes);
      return Sent::Yes;
    }

   private:
    FakeNet& net_;
    const size_t pair_;
  };

  // As an fd of the loop would.
  void announce(size_t pair) {
    Port& port = ports_[pair];
    if (!port.listening || port.waiting.empty()) return;
    port.loop->post(alive_.token(), [&port] {
      if (port.listening && port.on_frame) port.on_frame();
    });
  }

  const uint32_t offloads_;
  std::vector<Port> ports_;
  std::vector<Frame> sent_;
  size_t room_ = SIZE_MAX;
  bool lose_ = false;
  bool refuse_ = false;
  bool link_up_ = true;
  uint32_t asked_offloads_ = 0;
  size_t used_pairs_ = 1;
  std::function<void()> on_link_;
  Lifetime alive_;
};

}  // namespace strato::testing
