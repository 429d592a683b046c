#pragma once

#include <memory>

#include "chardev/chardev.h"
#include "event/event_loop.h"

namespace strato {

// A new pseudo-terminal in raw mode; address() is "pty:/dev/pts/N". We hold its other end open too: whoever opens it
// finds what came before (as much as fits), and may come and go without the guest noticing.
Result<std::unique_ptr<Chardev>> open_pty_chardev(EventLoop& loop);

}  // namespace strato
