// Frames on a stream socket: to passt, QEMU's -netdev stream, or another VM.
// Threads: the connection is made on the control loop, where this object is made and destroyed; each side then has a
//          reference to it of its own.
// Limits:  one queue pair, one peer at a time, no offloads. A frame that the socket takes in part is finished later:
//          at most one is kept.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "event/lifetime.h"
#include "event/timer.h"
#include "net/frame_splitter.h"
#include "net/net_backend.h"

namespace strato {

class StreamNet final : public NetBackend {
 public:
  struct Args {
    std::string name;  // for messages
    SocketAddress address{};
    bool server = false;
    uint64_t retry_ns = 0;  // client: between two attempts; 0: there is only one, and it has to work out
    std::function<void()> on_disconnect{};  // a peer has gone; on the loop
  };
  static Result<std::unique_ptr<StreamNet>> open(EventLoop& loop, const Args& args);
  // One end of a pair of sockets; when the other one goes the link is down for good.
  static Result<std::unique_ptr<StreamNet>> adopt(EventLoop& loop, std::string name, UniqueFd socket,
                                                  std::function<void()> on_disconnect = {});
  ~StreamNet() override;

  // The owner knows that nobody is there any more, also when no side looks. On the loop.
  void disconnect() STRATO_EXCLUDES(mutex_);

  size_t pairs() const override { return 1; }
  uint32_t offloads() const override { return 0; }
  void set_offloads(uint32_t /*offloads*/) override {}
  void use_pairs(size_t /*count*/) override {}
  Result<std::unique_ptr<NetReceiver>> attach_receiver(size_t pair, EventLoop& loop, NetReady on_ready) override;
  Result<std::unique_ptr<NetSender>> attach_sender(size_t pair, EventLoop& loop, NetReady on_ready) override;
  bool link_up() const override STRATO_EXCLUDES(mutex_);
  void on_link(std::function<void()> callback) override { on_link_ = std::move(callback); }

 private:
  // Outlives receiver and sender, which come and go with a pause: no half of a frame is forgotten.
  struct Peer {
    explicit Peer(UniqueFd connected) : socket(std::move(connected)) {}
    const UniqueFd socket;
    FrameSplitter received{};         // the receiver's
    std::vector<std::byte> unsent{};  // the sender's: of a frame that went out in part
  };
  // Shared by those that use it; the last one closes it.
  using Connection = std::shared_ptr<Peer>;
  // A receiver or sender, on its loop. It is given each new connection, and none when that is lost.
  class Side {
   public:
    Side(StreamNet& net, EventLoop& loop) : net_(net), loop_(loop) { net.add(*this); }
    virtual ~Side() { net_.remove(*this); }
    Side(const Side&) = delete;
    Side& operator=(const Side&) = delete;

   protected:
    friend class StreamNet;
    virtual void use(Connection connection) = 0;
    // It has ended.
    void report_loss(const Connection& connection);

    StreamNet& net_;
    EventLoop& loop_;
    Lifetime alive_;
  };
  friend class StreamReceiver;
  friend class StreamSender;

  StreamNet(EventLoop& loop, Args args);
  void add(Side& side) STRATO_EXCLUDES(mutex_);
  void remove(Side& side) STRATO_EXCLUDES(mutex_);
  void give(Side& side, Connection connection);

  Result<> listen();
  void accept_next();
  Result<> try_to_connect();
  void finish_connecting();
  void try_later(const Error& error);
  void connected(UniqueFd socket);
  void set_connection(Connection connection) STRATO_EXCLUDES(mutex_);
  void lost(const Connection& connection);

  EventLoop& loop_;
  const Args args_;
  std::optional<ListeningSocket> listening_;
  Watch listen_watch_;
  UniqueFd connecting_;
  Watch connect_watch_;
  Timer retry_;
  std::function<void()> on_link_;

  mutable Mutex mutex_;
  Connection connection_ STRATO_GUARDED_BY(mutex_);
  std::vector<Side*> sides_ STRATO_GUARDED_BY(mutex_);
  Lifetime alive_;
};

}  // namespace strato
