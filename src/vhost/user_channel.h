// Requests to a vhost-user back end and its answers, over a unix socket.
// Spec:    vhost-user, the front end's side. Missing: the back end's own channel (BACKEND_REQ is not negotiated).
// Threads: the loop's. Nothing blocks: a request waits for the one before it, and its answer for kAnswerNs at most.
// Limits:  an answer has the size that was asked for, and at most kMaxAnswerBytes; descriptors that come with it, an
//          answer of another kind, or one that nobody asked for, end the connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "bus/component.h"
#include "event/event_loop.h"
#include "event/lifetime.h"
#include "event/timer.h"
#include "memory/wire_type.h"
#include "vhost/user_spec.h"

namespace strato::vhost {

class UserChannel {
 public:
  // Long enough for a back end that first finishes what it has in hand, on a slow host.
  static constexpr uint64_t kAnswerNs = 10'000'000'000;
  static constexpr size_t kMaxAnswerBytes = 4096;

  using OnLost = std::move_only_function<void(const Error&)>;
  using OnAnswer = std::move_only_function<void(std::span<const std::byte> payload)>;

  struct Message {
    UserRequest request;
    std::vector<std::byte> payload{};
    std::vector<int> fds{};  // stay open until the answer, or the end
  };

  // `on_lost`: once, when the back end has gone or does what the protocol forbids; from the loop, never from inside a
  // call. No answer comes after it. `name` is for messages.
  UserChannel(EventLoop& loop, std::string name, UniqueFd socket, OnLost on_lost);
  UserChannel(const UserChannel&) = delete;
  UserChannel& operator=(const UserChannel&) = delete;

  template <WireType T>
  static std::vector<std::byte> to_bytes(const T& value) {
    const auto* data = reinterpret_cast<const std::byte*>(&value);
    return {data, data + sizeof(T)};
  }
  // Of an answer, whose size is right.
  template <WireType T>
  static T from_bytes(std::span<const std::byte> payload) {
    T value;
    STRATO_ASSERT(payload.size() == sizeof(T));
    std::memcpy(&value, payload.data(), sizeof(T));
    return value;
  }

  // `on_answer` gets exactly `answer_bytes`. It and `on_done` may destroy the channel.
  void ask(Message message, size_t answer_bytes, OnAnswer on_answer);
  // `on_done`: the back end has done it, or, without REPLY_ACK, was told to: maybe from inside this call.
  void tell(Message message, Done on_done = {});
  // REPLY_ACK was negotiated: the back end says of everything that follows whether it worked out.
  void confirm_all() { confirmed_ = true; }

  // The back end lies: the end of the connection.
  void fail(Error error);
  bool failed() const { return !socket_.valid(); }
  // Nothing is asked or told any more; the channel is at its end.
  UniqueFd take_socket();

 private:
  struct Pending {
    Message message;
    size_t answer_bytes = 0;
    bool confirmation = false;  // the answer says only whether it worked
    OnAnswer on_answer{};
    Done on_done{};
    bool answered() const { return answer_bytes != 0; }
  };

  void submit(Pending pending);
  void send_next();
  void send_rest();
  void ready(uint32_t events);
  void receive();
  bool check_header();
  void answered();
  void fail_errno(std::string_view what);

  EventLoop& loop_;
  const std::string name_;
  UniqueFd socket_;
  OnLost on_lost_;
  bool confirmed_ = false;

  std::deque<Pending> pending_;
  bool under_way_ = false;           // the first of them
  std::vector<std::byte> outgoing_;  // its bytes
  size_t sent_ = 0;
  std::vector<std::byte> incoming_;
  size_t awaited_ = 0;  // bytes that incoming_ is to have before it is looked at
  Timer timeout_;
  Watch watch_;
  Lifetime alive_;
};

}  // namespace strato::vhost
