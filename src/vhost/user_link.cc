#include "vhost/user_link.h"

#include <fmt/format.h>

#include <utility>

#include "virtio/spec.h"

namespace strato::vhost {

UserLink::UserLink(EventLoop& loop, std::string name, UserConnection connection, UserChannel::OnLost on_lost)
    : channel_(loop, std::move(name), std::move(connection.socket), std::move(on_lost)) {
  if (connection.confirms) channel_.confirm_all();
}

void UserLink::set_features(uint64_t features) {
  channel_.tell({.request = UserRequest::SetFeatures,
                 .payload = UserChannel::to_bytes(le64(features | virtio::kFeatureVersion1 | kUserFeatureProtocol))});
}

void UserLink::set_memory(std::shared_ptr<const UserMemoryTable> table) {
  UserChannel::Message message{.request = UserRequest::SetMemTable, .payload = table->payload(), .fds = table->fds()};
  channel_.tell(std::move(message), [table = std::move(table)] {});
}

void UserLink::tell_vring(UserRequest request, size_t index, uint32_t value, Done done) {
  const UserVringState state{.index = static_cast<uint32_t>(index), .value = value};
  channel_.tell({.request = request, .payload = UserChannel::to_bytes(state)}, std::move(done));
}

void UserLink::tell_vring_fd(UserRequest request, size_t index, int fd) {
  channel_.tell({.request = request, .payload = UserChannel::to_bytes(le64(index)), .fds = {fd}});
}

void UserLink::start_ring(const Ring& ring, Done on_started) {
  tell_vring(UserRequest::SetVringNum, ring.index, UserRing::kSize);
  tell_vring(UserRequest::SetVringBase, ring.index, 0);
  const UserVringAddresses addresses{.index = static_cast<uint32_t>(ring.index),
                                     .descriptors = ring.places.descriptors,
                                     .used = ring.places.used,
                                     .available = ring.places.available};
  channel_.tell({.request = UserRequest::SetVringAddr, .payload = UserChannel::to_bytes(addresses)});
  tell_vring_fd(UserRequest::SetVringCall, ring.index, ring.call);
  tell_vring_fd(UserRequest::SetVringKick, ring.index, ring.kick);
  // With protocol features a ring begins disabled.
  tell_vring(UserRequest::SetVringEnable, ring.index, 1, std::move(on_started));
}

void UserLink::stop_ring(size_t index, Done on_stopped) {
  const UserVringState state{.index = static_cast<uint32_t>(index), .value = 0};
  channel_.ask({.request = UserRequest::GetVringBase, .payload = UserChannel::to_bytes(state)}, sizeof(UserVringState),
               [this, index, on_stopped = std::move(on_stopped)](std::span<const std::byte> answer) mutable {
                 const auto stopped = UserChannel::from_bytes<UserVringState>(answer);
                 if (stopped.index.get() != index) {
                   return channel_.fail(
                       Error::invalid(fmt::format("asked to stop ring {} it stops {}", index, stopped.index.get())));
                 }
                 on_stopped();
               });
}

}  // namespace strato::vhost
