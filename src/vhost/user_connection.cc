#include "vhost/user_connection.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <optional>
#include <utility>

#include "base/assert.h"

namespace strato::vhost {
namespace {

// A queue more than this many is no queue of any device.
constexpr uint64_t kMostQueues = 1024;

}  // namespace

UserHandshake::UserHandshake(EventLoop& loop, std::string name, UniqueFd socket, const UserNeeds& needs, OnEnd done)
    : needs_(needs),
      done_(std::move(done)),
      channel_(loop, std::move(name), std::move(socket),
               [this](const Error& error) { end(std::unexpected(Error(error))); }) {
  STRATO_ASSERT(needs.config_bytes <= kUserMaxConfigBytes);
  ask_features();
}

void UserHandshake::ask_number(UserRequest request, std::move_only_function<void(uint64_t)> on_answer) {
  channel_.ask({.request = request}, sizeof(le64),
               [on_answer = std::move(on_answer)](std::span<const std::byte> answer) mutable {
                 on_answer(UserChannel::from_bytes<le64>(answer).get());
               });
}

void UserHandshake::ask_features() {
  ask_number(UserRequest::GetFeatures, [this](uint64_t offered) { got_features(offered); });
}

void UserHandshake::got_features(uint64_t offered) {
  const uint64_t needed = needs_.features | kUserFeatureProtocol;
  if ((needed & ~offered) != 0) {
    return refuse(fmt::format("it lacks features {:#x} of those that are needed", needed & ~offered));
  }
  connection_.features = offered;
  ask_number(UserRequest::GetProtocolFeatures, [this](uint64_t protocol) { got_protocol_features(protocol); });
}

void UserHandshake::got_protocol_features(uint64_t offered) {
  uint64_t wanted = kUserProtocolMq | kUserProtocolReplyAck;
  if (needs_.config_bytes != 0) wanted |= kUserProtocolConfig;
  const uint64_t used = offered & wanted;
  if (needs_.config_bytes != 0 && (used & kUserProtocolConfig) == 0) {
    return refuse("it does not give its configuration (CONFIG)");
  }
  connection_.confirms = (used & kUserProtocolReplyAck) != 0;
  channel_.tell({.request = UserRequest::SetProtocolFeatures, .payload = UserChannel::to_bytes(le64(used))});
  if (connection_.confirms) channel_.confirm_all();
  channel_.tell({.request = UserRequest::SetOwner},
                [this, used] { ask_queues((used & kUserProtocolMq) != 0, needs_.config_bytes != 0); });
}

void UserHandshake::ask_queues(bool multi_queue, bool config) {
  if (!multi_queue) return ask_config(config);
  ask_number(UserRequest::GetQueueNum, [this, config](uint64_t queues) {
    if (queues > kMostQueues) return refuse(fmt::format("it says that it has {} queues", queues));
    if (queues < needs_.queues)
      return refuse(fmt::format("it has {} queues, and {} are needed", queues, needs_.queues));
    ask_config(config);
  });
}

void UserHandshake::ask_config(bool config) {
  if (!config) return finish();
  const UserConfigHeader header{.offset = 0, .bytes = static_cast<uint32_t>(needs_.config_bytes), .flags = 0};
  std::vector<std::byte> payload = UserChannel::to_bytes(header);
  const size_t bytes = payload.size() + needs_.config_bytes;
  payload.resize(bytes);
  channel_.ask({.request = UserRequest::GetConfig, .payload = std::move(payload)}, bytes,
               [this](std::span<const std::byte> answer) { got_config(answer); });
}

void UserHandshake::got_config(std::span<const std::byte> answer) {
  const auto header = UserChannel::from_bytes<UserConfigHeader>(answer.first(sizeof(UserConfigHeader)));
  if (header.offset.get() != 0 || header.bytes.get() != needs_.config_bytes) {
    return refuse(fmt::format("it answers with {} bytes of configuration from {} on, and {} from 0 on were asked for",
                              header.bytes.get(), header.offset.get(), needs_.config_bytes));
  }
  const std::span<const std::byte> config = answer.subspan(sizeof(UserConfigHeader));
  connection_.config.assign(config.begin(), config.end());
  finish();
}

void UserHandshake::finish() {
  connection_.socket = channel_.take_socket();
  end(std::move(connection_));
}

void UserHandshake::refuse(std::string text) {
  channel_.fail(Error::unsupported(std::move(text)));
}

void UserHandshake::end(Result<UserConnection> result) {
  OnEnd done = std::exchange(done_, {});
  if (done) done(std::move(result));
}

Result<UserConnection> connect_to_back_end(const SocketAddress& address, const std::string& name,
                                           const UserNeeds& needs, const Clock& clock) {
  // A unix socket connects at once or not at all.
  UniqueFd socket = STRATO_TRY(start_connecting(address));
  std::unique_ptr<EventLoop> loop = STRATO_TRY(EventLoop::create("vhost-user", clock));
  std::optional<Result<UserConnection>> ended;
  {
    const UserHandshake handshake(*loop, name, std::move(socket), needs,
                                  [&ended](Result<UserConnection> result) { ended.emplace(std::move(result)); });
    while (!ended) loop->run_once(std::nullopt);
  }
  if (!*ended) return std::unexpected(std::move(*ended).error().context("back end at " + address.to_string()));
  return *std::move(*ended);
}

}  // namespace strato::vhost
