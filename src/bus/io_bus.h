// The MMIO and port I/O buses: who answers at which address.
// Threads: add and remove on the control loop; IoBusView on the vCPU thread that owns it. Devices are called on any
// vCPU thread, concurrently.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/doorbell.h"

namespace strato {

// A window of registers. The bus has checked that the whole access lies in the window; the device checks its width.
// Called on any vCPU thread, concurrently: one mutex of the device guards its registers. Anything slow (reset, unplug,
// power) is posted to the control loop.
class IoDevice {
 public:
  virtual ~IoDevice() = default;
  // Fills `out` (1 to 8 bytes for MMIO, 1 to 4 for ports). `offset` is relative to the window.
  virtual void read(uint64_t offset, std::span<std::byte> out) = 0;
  virtual void write(uint64_t offset, std::span<const std::byte> data) = 0;
};

// An access of 1, 2, 4 or 8 bytes as a number, little endian as the bus is. Other sizes read the low bytes.
uint64_t to_register_value(std::span<const std::byte> data);
void from_register_value(uint64_t value, std::span<std::byte> out);

class IoBus {
 public:
  struct Window {
    uint64_t base;
    uint64_t size;
    std::string name;
    std::shared_ptr<IoDevice> device;
  };
  // A write of `width_bytes` (0: any) at `address` with this value (none: any) rings instead of reaching the device.
  // KVM matches doorbells itself when an ioeventfd is attached; this list serves hosts and tests where nobody does.
  struct DoorbellMatch {
    uint64_t address;
    uint8_t width_bytes;
    std::optional<uint64_t> value;
    std::shared_ptr<Doorbell> doorbell;
  };
  struct Table {
    std::vector<Window> windows;  // sorted by base, disjoint
    std::vector<DoorbellMatch> doorbells;
    const Window* find(uint64_t address, uint64_t size) const;
  };

  // `limit` is the first address behind the bus (0x10000 for ports; 0: the whole 64-bit space).
  explicit IoBus(uint64_t limit);

  // Refused: an empty or wrapping window, one beyond the limit, one that overlaps another (both are named).
  Result<> add(Window window);
  // Calls that are under way on other threads finish on the old table, which keeps the device alive.
  Result<> remove(uint64_t base);
  void add_doorbell(DoorbellMatch match);
  void remove_doorbells(const Doorbell& doorbell);

  std::shared_ptr<const Table> table() const;
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

 private:
  void publish(std::shared_ptr<const Table> table) STRATO_REQUIRES(mutex_);

  const uint64_t limit_;
  mutable Mutex mutex_;
  std::shared_ptr<const Table> table_ STRATO_GUARDED_BY(mutex_);
  std::atomic<uint64_t> generation_{0};
};

// One thread's way to the bus: keeps the table that it saw last, so that an access costs one atomic load and a binary
// search, no lock.
class IoBusView {
 public:
  explicit IoBusView(const IoBus& bus) : bus_(bus) {}

  // False: nobody answers there, or the access reaches over the end of a window. `out` is then all ones, as on a bus
  // without a driver.
  bool read(uint64_t address, std::span<std::byte> out);
  bool write(uint64_t address, std::span<const std::byte> data);

 private:
  const IoBus::Table& table();

  const IoBus& bus_;
  std::shared_ptr<const IoBus::Table> table_;
  uint64_t seen_ = UINT64_MAX;
};

}  // namespace strato
