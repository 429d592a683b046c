#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "memory/wire_type.h"

namespace strato::virtio {

// The device-specific configuration (§2.5): bytes of a wire struct, a generation that counts the device's changes, and
// a mask of what the driver may write. Shared by transport and device. Threads: any.
class ConfigSpace {
 public:
  // `bytes` long, all zero, nothing writable.
  explicit ConfigSpace(size_t bytes) : bytes_(bytes), writable_(bytes) {}
  template <WireType T>
  explicit ConfigSpace(const T& initial) : ConfigSpace(sizeof(T)) {
    store(0, initial);
  }
  ConfigSpace(const ConfigSpace&) = delete;
  ConfigSpace& operator=(const ConfigSpace&) = delete;

  // --- The device's side. Ranges must lie within size(). ---
  size_t size() const { return writable_.size(); }
  // Before the device is attached.
  void make_writable(size_t offset, size_t bytes);

  template <WireType T>
  T load(size_t offset) const {
    T value;
    load_bytes(offset, std::span(reinterpret_cast<std::byte*>(&value), sizeof(T)));
    return value;
  }
  // A change that the driver does not hear of by itself; it shows in the generation.
  template <WireType T>
  void store(size_t offset, const T& value) {
    store_bytes(offset, std::span(reinterpret_cast<const std::byte*>(&value), sizeof(T)));
  }
  void load_bytes(size_t offset, std::span<std::byte> out) const;
  void store_bytes(size_t offset, std::span<const std::byte> data);
  // Raises the configuration change interrupt, once for all stores before it.
  void notify_driver();

  // --- The transport's side. The offsets are the guest's. ---
  // Bytes outside read as zeros.
  void read(uint64_t offset, std::span<std::byte> out) const;
  // Writes the writable ones among the bytes; false when there is none.
  bool write(uint64_t offset, std::span<const std::byte> data);
  uint32_t generation() const;
  void set_generation(uint32_t generation);
  // Set once, before the device runs; called on the thread of notify_driver(), without a lock.
  void on_notify(std::move_only_function<void()> callback) { on_notify_ = std::move(callback); }

 private:
  mutable Mutex mutex_;
  std::vector<std::byte> bytes_ STRATO_GUARDED_BY(mutex_);
  uint32_t generation_ STRATO_GUARDED_BY(mutex_) = 0;
  std::vector<bool> writable_;
  std::move_only_function<void()> on_notify_;
};

}  // namespace strato::virtio
