#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "bus/component.h"
#include "vhost/user_channel.h"
#include "vhost/user_connection.h"
#include "vhost/user_memory.h"
#include "vhost/user_ring.h"

namespace strato::vhost {

// What a device asks of its back end once they know each other. All of it is done in the order of the calls; whatever
// does not work out ends the connection. Threads: the loop's.
class UserLink {
 public:
  // `on_lost`: as a UserChannel has it. No callback comes after it.
  UserLink(EventLoop& loop, std::string name, UserConnection connection, UserChannel::OnLost on_lost);

  // Those of the device that driver and back end use.
  void set_features(uint64_t features);
  void set_memory(std::shared_ptr<const UserMemoryTable> table);

  struct Ring {
    size_t index = 0;
    UserRing::Places places{};
    int kick = -1;  // ours to signal
    int call = -1;  // the back end's
  };
  // An empty ring. The descriptors stay open until it has been stopped, or the connection has ended.
  void start_ring(const Ring& ring, Done on_started);
  // The back end takes nothing more from the ring, and writes nothing for it, once `on_stopped` is called.
  void stop_ring(size_t index, Done on_stopped);

  void fail(Error error) { channel_.fail(std::move(error)); }
  bool failed() const { return channel_.failed(); }

 private:
  void tell_vring(UserRequest request, size_t index, uint32_t value, Done done = {});
  void tell_vring_fd(UserRequest request, size_t index, int fd);

  UserChannel channel_;
};

}  // namespace strato::vhost
