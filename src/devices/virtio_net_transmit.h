// One transmitting queue of virtio-net at work: frames go from the guest's memory straight to the host.
// Threads: the loop that serves the queue; start() and end() post there.
// Limits:  one round takes kRoundFrames frames; a frame has at most as many pieces as writev(2) takes.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "devices/virtio_net_receive.h"

namespace strato::virtio {

class NetTransmitQueue {
 public:
  static constexpr int kRoundFrames = 64;

  NetTransmitQueue(NetShared& shared, size_t pair, QueueWiring wiring);
  NetTransmitQueue(const NetTransmitQueue&) = delete;
  NetTransmitQueue& operator=(const NetTransmitQueue&) = delete;

  void start();
  // `done` runs on the loop, as our last act, and destroys us.
  void end(ReturnQueue done);

 private:
  enum class Taken : uint8_t { Yes, Later };

  void begin();
  void serve();
  Taken take(Chain chain);
  NetSender::Sent send(NetHeader& header, ChainReader& reader);
  void answer(Chain chain);
  void refuse(Chain chain, std::string_view reason);

  NetShared& shared_;
  const size_t pair_;
  std::optional<QueueWiring> wiring_;  // until begin()
  EventLoop& loop_;
  std::unique_ptr<QueueWorker> worker_;
  std::unique_ptr<NetSender> sender_;  // none: it could not be had, and the queue is not served
  std::optional<Timer> retry_;         // armed: the limiter makes the driver wait
  bool host_is_full_ = false;
  std::vector<iovec> pieces_;
  Lifetime alive_;
};

}  // namespace strato::virtio
