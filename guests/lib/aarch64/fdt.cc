#include "fdt.h"

namespace guest {
namespace {

enum Token : uint32_t { kBeginNode = 1, kEndNode = 2, kProperty = 3, kNop = 4, kEnd = 9 };

uint32_t big_endian(uint64_t address) {
  return __builtin_bswap32(*reinterpret_cast<const uint32_t*>(address));
}

uint64_t padded(uint64_t size) {
  return (size + 3) & ~uint64_t{3};
}

Text text_at(uint64_t address) {
  return Text(reinterpret_cast<const char*>(address));
}

}  // namespace

uint32_t FdtProperty::cell(uint32_t index) const {
  return uint64_t{index} * 4 + 4 <= size ? big_endian(reinterpret_cast<uint64_t>(data) + index * 4) : 0;
}

uint64_t FdtProperty::cells(uint32_t first, uint32_t count) const {
  uint64_t value = 0;
  for (uint32_t i = 0; i < count; i++) value = value << 32 | cell(first + i);
  return value;
}

uint64_t FdtProperty::number() const {
  return cells(0, size / 4);
}

Text FdtProperty::text() const {
  return size == 0 ? Text() : Text(reinterpret_cast<const char*>(data));
}

bool FdtProperty::has_string(Text wanted) const {
  for (uint32_t i = 0; i < size;) {
    const Text one(reinterpret_cast<const char*>(data) + i);
    if (one == wanted) return true;
    i += static_cast<uint32_t>(one.size) + 1;
  }
  return false;
}

FdtProperty FdtNode::property(Text wanted) const {
  for (uint64_t at = properties;;) {
    const uint32_t token = big_endian(at);
    if (token == kNop) {
      at += 4;
      continue;
    }
    if (token != kProperty) return {};
    const uint32_t size = big_endian(at + 4);
    if (text_at(strings + big_endian(at + 8)) == wanted) return {reinterpret_cast<const uint8_t*>(at + 12), size};
    at += 12 + padded(size);
  }
}

bool FdtNode::reg(uint32_t index, uint64_t* address, uint64_t* size) const {
  const FdtProperty reg = property("reg");
  const uint32_t width = address_cells + size_cells;
  if (width == 0 || (index + 1) * width * 4 > reg.size) return false;
  *address = reg.cells(index * width, address_cells);
  *size = reg.cells(index * width + address_cells, size_cells);
  return true;
}

// Linux Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml: kind, number, flags.
InterruptLine FdtNode::interrupt(uint32_t index) const {
  const FdtProperty interrupts = property("interrupts");
  const uint32_t first = interrupts.cell(index * 3) == 0 ? 32 : 16;  // SPI, PPI
  return {first + interrupts.cell(index * 3 + 1), (interrupts.cell(index * 3 + 2) & 3) != 0};
}

FdtWalk::FdtWalk(uint64_t fdt) {
  if (big_endian(fdt) != 0xd00dfeed) return;
  place_ = fdt + big_endian(fdt + 8);
  strings_ = fdt + big_endian(fdt + 12);
}

bool FdtWalk::next(FdtNode* node) {
  while (place_ != 0) {
    const uint32_t token = big_endian(place_);
    if (token == kEndNode) {
      depth_--;
      place_ += 4;
    } else if (token == kNop) {
      place_ += 4;
    } else if (token == kProperty) {
      place_ += 12 + padded(big_endian(place_ + 4));
    } else if (token == kBeginNode && depth_ < kMaxDepth) {
      node->name = text_at(place_ + 4);
      node->depth = depth_;
      node->properties = place_ + 4 + padded(node->name.size + 1);
      node->strings = strings_;
      if (depth_ > 0) {
        node->address_cells = cells_[depth_ - 1].address;
        node->size_cells = cells_[depth_ - 1].size;
      }
      const FdtProperty address = node->property("#address-cells");
      const FdtProperty size = node->property("#size-cells");
      cells_[depth_] = {address.size != 0 ? address.cell(0) : 2, size.size != 0 ? size.cell(0) : 1};
      depth_++;
      place_ = node->properties;
      return true;
    } else {
      place_ = 0;  // the end
    }
  }
  return false;
}

}  // namespace guest
