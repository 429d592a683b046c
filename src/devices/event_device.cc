#include "devices/event_device.h"

#include <utility>

#include "state/format.h"

namespace strato {

void EventDevice::raise(Event event) {
  {
    MutexLock lock(mutex_);
    pending_ |= std::to_underlying(event);
  }
  irq_.pulse();
}

void EventDevice::read(uint64_t offset, std::span<std::byte> out) {
  uint32_t pending = 0;
  if (offset == 0 && out.size() == kWindowBytes) {
    MutexLock lock(mutex_);
    pending = std::exchange(pending_, 0);
  }
  from_register_value(pending, out);
}

void EventDevice::reset(Done done) {
  {
    MutexLock lock(mutex_);
    pending_ = 0;
  }
  done();
}

Result<std::vector<std::byte>> EventDevice::save() const {
  MutexLock lock(mutex_);
  return state::to_bytes(EventDeviceState{.pending = pending_});
}

}  // namespace strato
