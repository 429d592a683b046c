#pragma once

namespace strato {

// How a guest tells a device "look at your queue". Backed by an ioeventfd where KVM is, rung by the bus itself
// elsewhere.
class Doorbell {
 public:
  virtual ~Doorbell() = default;
  // The eventfd that a loop, vhost or a back end process watches. -1 when there is none (tests).
  virtual int fd() const = 0;
  // Callable from any thread.
  virtual void ring() = 0;
};

}  // namespace strato
