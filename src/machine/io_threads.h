#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/device_config.h"
#include "event/clock.h"
#include "event/io_thread.h"

namespace strato {

// The threads that serve devices: those of -object iothread, named by their ids, and the default one, which is started
// for the first device that names none. Threads: control loop.
class IoThreads {
 public:
  // `clock` outlives the threads.
  static Result<std::unique_ptr<IoThreads>> create(std::span<const IothreadConfig> wanted, const Clock& clock);

  // Of the iothread called `id`, which exists; of the default one when `id` is empty.
  Result<EventLoop*> loop(std::string_view id);
  // All threads have ended, and their loops belong to the calling thread: what lives on them can be destroyed.
  void stop();

 private:
  explicit IoThreads(const Clock& clock) : clock_(clock) {}

  const Clock& clock_;
  std::vector<std::unique_ptr<IoThread>> threads_;
  std::unique_ptr<IoThread> default_;
};

}  // namespace strato
