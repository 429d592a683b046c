#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace strato {

// The receiving side that our serial ports have in common: the guest's FIFO, and a chardev that waits for room in it.
// Guarded by the port's mutex; once that is free the port calls Chardev::resume_input() if take_wish() said so.
class SerialInput {
 public:
  // The answer to ChardevHandler::input_room(). No more than a real FIFO holds: a guest that takes the port over clears
  // it, and early input with it. `open`: the port listens to its line now.
  size_t room(bool open, size_t held, size_t capacity) {
    const bool takes = open && !paused_ && held < capacity;
    stopped_ = !takes;
    return takes ? capacity - held : 0;
  }
  // True once when the chardev was told that there is no room, and half of it is free again.
  bool take_wish(bool open, size_t held, size_t capacity) {
    if (!stopped_ || !open || held > capacity / 2) return false;
    stopped_ = false;
    return true;
  }
  void set_paused(bool paused) { paused_ = paused; }

  // False: an overrun, the byte is lost. Input may be more than room() said when the guest has made the FIFO smaller.
  [[nodiscard]] static bool store(std::vector<uint8_t>& fifo, size_t capacity, uint8_t byte) {
    if (fifo.size() >= capacity) return false;
    fifo.push_back(byte);
    return true;
  }
  // `fifo` is not empty.
  static uint8_t take(std::vector<uint8_t>& fifo) {
    const uint8_t byte = fifo.front();
    fifo.erase(fifo.begin());
    return byte;
  }

 private:
  bool stopped_ = false;  // the chardev was told that there is no room
  bool paused_ = false;
};

}  // namespace strato
