#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "chardev/chardev.h"
#include "config/vm_config.h"
#include "event/event_loop.h"

namespace strato {

// The -chardevs that somebody uses, each opened once, when its user is made. Threads: control loop.
class Chardevs {
 public:
  // `on_quit`: the user pressed Ctrl-A X; on the loop. All of it outlives this object.
  Chardevs(EventLoop& loop, const VmConfig& config, std::function<void()> on_quit)
      : loop_(loop), config_(config), on_quit_(std::move(on_quit)) {}

  // Lives as long as this object. Errors name the chardev.
  Result<Chardev*> open(const std::string& id);

 private:
  EventLoop& loop_;
  const VmConfig& config_;
  const std::function<void()> on_quit_;
  std::map<std::string, std::unique_ptr<Chardev>> opened_;
};

// The chardev of a device that has it for itself: refused when there is none of that id, or it has another user.
Result<const ChardevConfig*> find_own_chardev(const VmConfig& config, const std::string& id,
                                              const std::string& device_id);

}  // namespace strato
