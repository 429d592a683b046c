// The driver's side of a virtqueue in real guest memory, split or packed: builds chains, reads what was used, and lies
// when a test asks for it. Threads: one.
//
//   FakeDriver driver(ram, {.size = 8});
//   Queue queue = *Queue::create(ram.memory(), driver.config());
//   const auto sent = driver.chain().readable_obj(header).writable(512).submit();
//   ... serve ...
//   driver.take_used(), driver.bytes_at(sent.addresses[1], 512)
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/assert.h"
#include "base/checked.h"
#include "memory/wire_type.h"
#include "testing/guest_ram.h"
#include "virtio/queue_config.h"
#include "virtio/spec.h"

namespace strato::testing {

class FakeDriver {
 public:
  struct Options {
    uint32_t size = 16;
    bool packed = false;
    bool event_idx = false;
    bool indirect = true;
    uint64_t base = 0x10000;    // of the rings; buffers follow
    uint64_t limit = 0x100000;  // end of the memory for buffers, which are taken in a circle
  };
  struct Submitted {
    uint16_t id = 0;                    // split: the head
    std::vector<uint64_t> addresses{};  // of the pieces, in order
  };
  struct Used {
    uint32_t id = 0;
    uint32_t len = 0;
    bool operator==(const Used&) const = default;
  };

  struct Piece {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
  };

  // A chain under construction. submit() is its end.
  class Request {
   public:
    Request& readable(std::span<const std::byte> data) {
      const uint64_t addr = driver_.allocate(data.size());
      driver_.store(addr, data);
      return raw(addr, static_cast<uint32_t>(data.size()), 0);
    }
    template <WireType T>
    Request& readable_obj(const T& value) {
      return readable(std::span(reinterpret_cast<const std::byte*>(&value), sizeof(T)));
    }
    Request& writable(uint32_t len) { return raw(driver_.allocate(len), len, virtio::kDescWrite); }
    // Whatever the test likes: NEXT and the bits of the packed ring are added, nothing is checked.
    Request& raw(uint64_t addr, uint32_t len, uint16_t flags) {
      pieces_.push_back({addr, len, flags});
      return *this;
    }
    // All pieces so far go into an indirect table.
    Request& indirect() {
      const uint64_t addr = driver_.allocate(pieces_.size() * 16 + 16);
      const uint64_t table = (addr + 15) & ~uint64_t{15};
      for (size_t i = 0; i < pieces_.size(); ++i) driver_.write_entry(table, i, pieces_.size(), pieces_[i]);
      const auto len = static_cast<uint32_t>(pieces_.size() * 16);
      for (const Piece& piece : pieces_) addresses_.push_back(piece.addr);
      pieces_.clear();
      table_ = table;
      return raw(table, len, virtio::kDescIndirect);
    }
    uint64_t table() const { return table_; }
    Submitted submit() {
      if (addresses_.empty()) {
        for (const Piece& piece : pieces_) addresses_.push_back(piece.addr);
      }
      return {driver_.post(pieces_), addresses_};
    }

   private:
    friend class FakeDriver;
    explicit Request(FakeDriver& driver) : driver_(driver) {}
    FakeDriver& driver_;
    std::vector<Piece> pieces_;
    std::vector<uint64_t> addresses_;
    uint64_t table_ = 0;
  };

  FakeDriver(GuestRam& ram, const Options& options) : ram_(ram), options_(options) {
    config_ = {.size = options.size,
               .desc = options.base,
               .driver = page_after(options.base + 16 * uint64_t{options.size}),
               .packed = options.packed,
               .event_idx = options.event_idx,
               .indirect = options.indirect};
    config_.device = page_after(config_.driver + 6 + 2 * uint64_t{options.size});
    buffers_ = page_after(config_.device + 6 + 8 * uint64_t{options.size});
    reset();
  }

  // What the driver tells the device about the queue.
  virtio::QueueConfig config() const { return config_; }

  // As after a device reset: empty rings, nothing submitted.
  void reset() {
    const std::vector<std::byte> zeros(buffers_ - config_.desc);
    store(config_.desc, zeros);
    next_buffer_ = buffers_;
    avail_ = used_ = 0;
    free_.clear();
    for (uint32_t i = options_.size; i-- > 0;) free_.push_back(static_cast<uint16_t>(i));
    slots_.clear();
    free_slots_ = options_.size;
    kick_wanted_ = false;
  }

  Request chain() { return Request(*this); }
  size_t outstanding() const { return slots_.size(); }
  uint32_t free_slots() const { return options_.packed ? free_slots_ : static_cast<uint32_t>(free_.size()); }

  // What the device has used since the last call. Its chains' elements are free again.
  std::vector<Used> take_used() {
    std::vector<Used> out;
    while (options_.packed ? packed_used_there() : split_used_there()) {
      out.push_back(options_.packed ? take_packed() : take_split());
    }
    return out;
  }

  // Whether the device wanted a ring for anything that was submitted since the last call.
  bool take_kick() { return std::exchange(kick_wanted_, false); }

  // --- Interrupts: what the driver wants to hear of. Without EVENT_IDX only all or nothing. ---
  void suppress_interrupts(bool suppress) {
    if (options_.packed) {
      put16(config_.driver + 2, suppress ? virtio::kEventDisable : virtio::kEventEnable);
    } else {
      put16(config_.driver, suppress ? virtio::kAvailNoInterrupt : 0);
    }
  }
  // An interrupt once `chains` more (packed: elements) were used than take_used() has seen. From 1.
  void interrupt_after(uint16_t chains) {
    if (options_.packed) {
      put16(config_.driver, wire((used_ + chains - 1) % (2 * options_.size)));
      put16(config_.driver + 2, virtio::kEventDesc);
    } else {
      put16(config_.driver + 4 + 2 * uint64_t{options_.size}, static_cast<uint16_t>(used_ + chains - 1));
    }
  }

  // --- Lies ---
  // Split: the available index becomes this.
  void publish(uint16_t index) { put16(config_.driver + 2, index); }
  // Split: an entry of the available ring.
  void put_avail(uint16_t slot, uint16_t head) { put16(config_.driver + 4 + 2 * (slot % options_.size), head); }
  void put_split_desc(uint32_t index, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next) {
    put(config_.desc + 16 * uint64_t{index}, virtio::SplitDesc{.addr = addr, .len = len, .flags = flags, .next = next});
  }
  // Packed: an element as it is, wrap bits included.
  void put_packed_desc(uint32_t offset, uint64_t addr, uint32_t len, uint16_t id, uint16_t flags) {
    put(config_.desc + 16 * uint64_t{offset}, virtio::PackedDesc{.addr = addr, .len = len, .id = id, .flags = flags});
  }
  // Packed: the two bits that make an element available in the round of the next chain, and where that begins.
  uint16_t available_bits() const { return bits(avail_); }
  uint32_t next_offset() const { return static_cast<uint32_t>(avail_ % options_.size); }

  // --- Guest memory ---
  std::vector<std::byte> bytes_at(uint64_t addr, uint64_t len) const { return ram_.bytes(addr, len); }
  void store(uint64_t addr, std::span<const std::byte> data) {
    STRATO_ASSERT(ram_.memory()->write_bytes(GuestAddr(addr), data).has_value());
  }
  template <WireType T>
  void put(uint64_t addr, const T& value) {
    STRATO_ASSERT(ram_.memory()->write(GuestAddr(addr), value).has_value());
  }
  template <WireType T>
  T load(uint64_t addr) const {
    const GuestResult<T> value = ram_.memory()->read<T>(GuestAddr(addr));
    STRATO_ASSERT(value.has_value());
    return *value;
  }
  uint64_t allocate(uint64_t len) {
    if (next_buffer_ + len > options_.limit) next_buffer_ = buffers_;
    const uint64_t addr = next_buffer_;
    next_buffer_ += align_up<uint64_t>(std::max<uint64_t>(len, 1), 16).value_or(16);
    STRATO_ASSERT(next_buffer_ <= options_.limit);
    return addr;
  }

 private:
  static uint64_t page_after(uint64_t addr) { return (addr + 4095) & ~uint64_t{4095}; }
  void put16(uint64_t addr, uint16_t value) { put(addr, le16(value)); }
  uint16_t get16(uint64_t addr) const { return load<le16>(addr).get(); }

  bool round(uint64_t position) const { return position / options_.size % 2 == 0; }  // the wrap bit
  uint16_t bits(uint64_t position) const { return round(position) ? virtio::kDescAvail : virtio::kDescUsed; }
  uint16_t wire(uint64_t position) const {
    return static_cast<uint16_t>((position % options_.size) | (round(position) ? 0x8000U : 0U));
  }

  void write_entry(uint64_t table, size_t index, size_t count, const Piece& piece) {
    const bool last = index + 1 == count;
    const uint64_t addr = table + 16 * index;
    if (options_.packed) {
      put(addr, virtio::PackedDesc{.addr = piece.addr, .len = piece.len, .id = 0, .flags = piece.flags});
    } else {
      put(addr, virtio::SplitDesc{.addr = piece.addr,
                                  .len = piece.len,
                                  .flags = static_cast<uint16_t>(piece.flags | (last ? 0 : virtio::kDescNext)),
                                  .next = static_cast<uint16_t>(last ? 0 : index + 1)});
    }
  }

  uint16_t post(const std::vector<Piece>& pieces) {
    STRATO_ASSERT(!pieces.empty());
    return options_.packed ? post_packed(pieces) : post_split(pieces);
  }

  uint16_t post_split(const std::vector<Piece>& pieces) {
    STRATO_ASSERT(pieces.size() <= free_.size());
    std::vector<uint16_t> indexes;
    for (size_t i = 0; i < pieces.size(); ++i) {
      indexes.push_back(free_.back());
      free_.pop_back();
    }
    for (size_t i = 0; i < pieces.size(); ++i) {
      const bool last = i + 1 == pieces.size();
      put_split_desc(indexes[i], pieces[i].addr, pieces[i].len,
                     static_cast<uint16_t>(pieces[i].flags | (last ? 0 : virtio::kDescNext)),
                     last ? uint16_t{0} : indexes[i + 1]);
    }
    const uint16_t head = indexes.front();
    put_avail(static_cast<uint16_t>(avail_), head);
    const auto before = static_cast<uint16_t>(avail_++);
    publish(static_cast<uint16_t>(avail_));
    slots_[head] = std::move(indexes);
    if (options_.event_idx) {
      kick_wanted_ = kick_wanted_ || get16(config_.device + 4 + 8 * uint64_t{options_.size}) == before;
    } else {
      kick_wanted_ = kick_wanted_ || (get16(config_.device) & virtio::kUsedNoNotify) == 0;
    }
    return head;
  }

  uint16_t post_packed(const std::vector<Piece>& pieces) {
    STRATO_ASSERT(pieces.size() <= free_slots_ && !free_.empty());
    const uint16_t id = free_.back();
    free_.pop_back();
    for (size_t i = pieces.size(); i-- > 0;) {  // the head last
      const bool last = i + 1 == pieces.size();
      const uint64_t position = avail_ + i;
      put_packed_desc(static_cast<uint32_t>(position % options_.size), pieces[i].addr, pieces[i].len, id,
                      static_cast<uint16_t>(pieces[i].flags | bits(position) | (last ? 0 : virtio::kDescNext)));
    }
    const uint64_t before = avail_;
    avail_ = (avail_ + pieces.size()) % (2 * uint64_t{options_.size});
    free_slots_ -= static_cast<uint32_t>(pieces.size());
    slots_[id] = std::vector<uint16_t>(pieces.size());
    kick_wanted_ = kick_wanted_ || packed_kick(before, pieces.size());
    return id;
  }

  bool packed_kick(uint64_t before, uint64_t added) const {
    const uint16_t flags = get16(config_.device + 2);
    if (flags != virtio::kEventDesc) return flags == virtio::kEventEnable;
    const uint16_t event = get16(config_.device);
    for (uint64_t i = 0; i < added; ++i) {
      if (wire((before + i) % (2 * uint64_t{options_.size})) == event) return true;
    }
    return false;
  }

  bool split_used_there() const { return get16(config_.device + 2) != static_cast<uint16_t>(used_); }
  Used take_split() {
    const auto element = load<virtio::UsedElement>(config_.device + 4 + 8 * (used_ % options_.size));
    used_ = (used_ + 1) & 0xffff;
    const auto found = slots_.find(static_cast<uint16_t>(element.id.get()));
    if (found != slots_.end()) {
      for (const uint16_t index : found->second) free_.push_back(index);
      slots_.erase(found);
    }
    return {element.id.get(), element.len.get()};
  }

  bool packed_used_there() const {
    const uint16_t flags = get16(config_.desc + 16 * (used_ % options_.size) + 14);
    const bool avail = (flags & virtio::kDescAvail) != 0;
    const bool used = (flags & virtio::kDescUsed) != 0;
    return avail == used && used == round(used_) && !slots_.empty();
  }
  Used take_packed() {
    const auto element = load<virtio::PackedDesc>(config_.desc + 16 * (used_ % options_.size));
    const auto found = slots_.find(element.id.get());
    STRATO_ASSERT(found != slots_.end());
    used_ = (used_ + found->second.size()) % (2 * uint64_t{options_.size});
    free_slots_ += static_cast<uint32_t>(found->second.size());
    free_.push_back(found->first);
    slots_.erase(found);
    return {element.id.get(), element.len.get()};
  }

  GuestRam& ram_;
  Options options_;
  virtio::QueueConfig config_;
  uint64_t buffers_ = 0;
  uint64_t next_buffer_ = 0;
  uint64_t avail_ = 0;  // split: the index, 16 bits of it; packed: through two rounds
  uint64_t used_ = 0;
  uint32_t free_slots_ = 0;
  std::vector<uint16_t> free_;                       // split: descriptors; packed: buffer ids
  std::map<uint16_t, std::vector<uint16_t>> slots_;  // of what is submitted, by id
  bool kick_wanted_ = false;
};

}  // namespace strato::testing
