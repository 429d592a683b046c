#pragma once

#include <memory>
#include <string>

#include "chardev/chardev.h"
#include "event/event_loop.h"

namespace strato {

// Output to a file, emptied first as QEMU does, mode 0600 when new. Appending, so that a rotation by copy and truncate
// works. A FIFO or a terminal will do as well; never any input.
Result<std::unique_ptr<Chardev>> open_file_chardev(EventLoop& loop, const std::string& path);

// Takes everything, brings nothing.
std::unique_ptr<Chardev> make_null_chardev();

// Each line of output becomes a line of our log, `name` in front; long lines are cut at 1 KiB.
std::unique_ptr<Chardev> make_log_chardev(std::string name);

}  // namespace strato
