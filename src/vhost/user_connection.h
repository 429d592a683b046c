#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "event/clock.h"
#include "event/event_loop.h"
#include "vhost/user_channel.h"

namespace strato::vhost {

// What a device needs of its back end.
struct UserNeeds {
  uint64_t features = 0;    // of virtio
  size_t queues = 0;        // at least
  size_t config_bytes = 0;  // that the device takes from the back end; 0: it knows its configuration
};

// A connection after the first exchange: both ends know what the other one can do.
struct UserConnection {
  UniqueFd socket{};
  uint64_t features = 0;  // that the back end offers
  bool confirms = false;  // REPLY_ACK
  std::vector<std::byte> config{};
};

// The first exchange. Threads: the loop's.
class UserHandshake {
 public:
  // `done` once, from the loop, and may destroy us.
  using OnEnd = std::move_only_function<void(Result<UserConnection>)>;
  UserHandshake(EventLoop& loop, std::string name, UniqueFd socket, const UserNeeds& needs, OnEnd done);

 private:
  void ask_features();
  void got_features(uint64_t offered);
  void got_protocol_features(uint64_t offered);
  void ask_queues(bool multi_queue, bool config);
  void ask_config(bool config);
  void got_config(std::span<const std::byte> answer);
  void finish();
  void refuse(std::string text);
  void end(Result<UserConnection> result);
  void ask_number(UserRequest request, std::move_only_function<void(uint64_t)> on_answer);

  const UserNeeds needs_;
  OnEnd done_;
  UserConnection connection_;
  UserChannel channel_;
};

// At the start of a machine: connects and waits for the end of the exchange, which a back end that does not answer
// makes fail after UserChannel::kAnswerNs.
Result<UserConnection> connect_to_back_end(const SocketAddress& address, const std::string& name,
                                           const UserNeeds& needs, const Clock& clock);

}  // namespace strato::vhost
