#include "bus/io_bus.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace strato {

uint64_t to_register_value(std::span<const std::byte> data) {
  uint64_t value = 0;
  std::memcpy(&value, data.data(), std::min(data.size(), sizeof(value)));
  return value;
}

void from_register_value(uint64_t value, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
  std::memcpy(out.data(), &value, std::min(out.size(), sizeof(value)));
}

const IoBus::Window* IoBus::Table::find(uint64_t address, uint64_t size) const {
  auto after = std::ranges::upper_bound(windows, address, {}, &Window::base);
  if (after == windows.begin()) return nullptr;
  const Window& window = *std::prev(after);
  const uint64_t offset = address - window.base;
  if (offset >= window.size || size > window.size - offset) return nullptr;
  return &window;
}

IoBus::IoBus(uint64_t limit) : limit_(limit), table_(std::make_shared<const Table>()) {}

Result<> IoBus::add(Window window) {
  const uint64_t last_size = limit_ - window.base;  // limit 0 wraps to the space that is left
  if (window.size == 0 || (limit_ != 0 && window.base >= limit_) || (last_size != 0 && window.size > last_size)) {
    return std::unexpected(Error::invalid(
        fmt::format("{}: window {:#x}+{:#x} does not lie on the bus", window.name, window.base, window.size)));
  }
  MutexLock lock(mutex_);
  for (const Window& other : table_->windows) {
    const bool disjoint =
        window.base < other.base ? window.size <= other.base - window.base : other.size <= window.base - other.base;
    if (!disjoint) {
      return std::unexpected(Error::exists(fmt::format("{}: window {:#x}+{:#x} overlaps {} at {:#x}+{:#x}", window.name,
                                                       window.base, window.size, other.name, other.base, other.size)));
    }
  }
  auto next = std::make_shared<Table>(*table_);
  const auto place = std::ranges::upper_bound(next->windows, window.base, {}, &Window::base);
  next->windows.insert(place, std::move(window));
  publish(std::move(next));
  return {};
}

Result<> IoBus::remove(uint64_t base) {
  MutexLock lock(mutex_);
  auto next = std::make_shared<Table>(*table_);
  if (std::erase_if(next->windows, [base](const Window& window) { return window.base == base; }) == 0) {
    return std::unexpected(Error::not_found(fmt::format("no window starts at {:#x}", base)));
  }
  publish(std::move(next));
  return {};
}

void IoBus::add_doorbell(DoorbellMatch match) {
  MutexLock lock(mutex_);
  auto next = std::make_shared<Table>(*table_);
  next->doorbells.push_back(std::move(match));
  publish(std::move(next));
}

void IoBus::remove_doorbells(const Doorbell& doorbell) {
  MutexLock lock(mutex_);
  auto next = std::make_shared<Table>(*table_);
  std::erase_if(next->doorbells, [&](const DoorbellMatch& match) { return match.doorbell.get() == &doorbell; });
  publish(std::move(next));
}

std::shared_ptr<const IoBus::Table> IoBus::table() const {
  MutexLock lock(mutex_);
  return table_;
}

void IoBus::publish(std::shared_ptr<const Table> table) {
  table_ = std::move(table);
  generation_.fetch_add(1, std::memory_order_release);
}

const IoBus::Table& IoBusView::table() {
  // Read the number first: a table that is swapped in between is then fetched again at the next access, never missed.
  const uint64_t generation = bus_.generation();
  if (generation != seen_) {
    table_ = bus_.table();
    seen_ = generation;
  }
  return *table_;
}

bool IoBusView::read(uint64_t address, std::span<std::byte> out) {
  const IoBus::Window* window = table().find(address, out.size());
  if (window == nullptr) {
    std::ranges::fill(out, std::byte{0xff});
    return false;
  }
  window->device->read(address - window->base, out);
  return true;
}

bool IoBusView::write(uint64_t address, std::span<const std::byte> data) {
  const IoBus::Table& now = table();
  for (const IoBus::DoorbellMatch& match : now.doorbells) {
    if (match.address == address && (match.width_bytes == 0 || match.width_bytes == data.size()) &&
        (!match.value || *match.value == to_register_value(data))) {
      match.doorbell->ring();
      return true;
    }
  }
  const IoBus::Window* window = now.find(address, data.size());
  if (window == nullptr) return false;
  window->device->write(address - window->base, data);
  return true;
}

}  // namespace strato
