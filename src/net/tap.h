// A tap interface of the host.
// Limits: kMaxPairs queue pairs. An interface that is down loses frames; one that was deleted is a link that stays
//         down.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "net/net_backend.h"

namespace strato {

class Tap final : public NetBackend {
 public:
  static constexpr size_t kMaxPairs = 16;

  // Makes the interface, or opens the one that is there, with `pairs` queues.
  static Result<std::unique_ptr<Tap>> open(const std::string& ifname, size_t pairs);
  // The queues of one interface, opened by others; they become ours.
  static Result<std::unique_ptr<Tap>> adopt(std::span<const int> fds);
  ~Tap() override;

  const std::string& ifname() const { return ifname_; }
  // For vhost: a queue, and whether its frames begin with a NetHeader.
  int fd(size_t pair) const { return queues_[pair]->fd.get(); }
  bool has_header() const { return has_header_; }

  size_t pairs() const override { return queues_.size(); }
  uint32_t offloads() const override { return offloads_; }
  void set_offloads(uint32_t offloads) override;
  void use_pairs(size_t count) override;
  Result<std::unique_ptr<NetReceiver>> attach_receiver(size_t pair, EventLoop& loop, NetReady on_ready) override;
  Result<std::unique_ptr<NetSender>> attach_sender(size_t pair, EventLoop& loop, NetReady on_ready) override;
  bool link_up() const override { return !gone_.load(); }
  void on_link(std::function<void()> callback) override { on_link_ = std::move(callback); }

 private:
  friend class TapReceiver;
  friend class TapSender;
  struct Queue {
    explicit Queue(UniqueFd tap) : fd(std::move(tap)) {}
    const UniqueFd fd;
    std::atomic<bool> attached{true};  // the host gives it frames
  };

  Tap() = default;
  static Result<std::unique_ptr<Tap>> create(std::string ifname, std::vector<UniqueFd> fds);
  Result<> prepare(int fd, bool multi_queue);
  void probe_offloads();
  void lost();

  std::string ifname_;
  bool has_header_ = true;  // its frames begin with a NetHeader
  bool multi_queue_ = false;
  uint32_t offloads_ = 0;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::atomic<bool> gone_{false};
  std::function<void()> on_link_;
};

}  // namespace strato
