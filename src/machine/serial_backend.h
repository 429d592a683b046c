#pragma once

#include <functional>
#include <memory>

#include "chardev/chardev.h"
#include "config/vm_config.h"
#include "event/event_loop.h"

namespace strato {

// Opens the chardev that -serial names. `on_quit`: the user pressed Ctrl-A X; on the loop. Errors name the option.
Result<std::unique_ptr<Chardev>> open_serial_backend(EventLoop& loop, const VmConfig& config,
                                                     std::move_only_function<void()> on_quit);

}  // namespace strato
