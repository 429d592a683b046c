// A devicetree blob, read only as far as the guests need it; the loader is trusted. Spec: Devicetree Specification
// v0.4, chapters 2 and 5.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lib/interrupts.h"
#include "lib/serial.h"

namespace guest {

struct FdtProperty {
  const uint8_t* data = nullptr;  // null: there is none
  uint32_t size = 0;

  uint32_t cell(uint32_t index) const;
  uint64_t number() const;  // of one cell or two
  uint64_t cells(uint32_t first, uint32_t count) const;
  Text text() const;                   // up to its first NUL
  bool has_string(Text wanted) const;  // as one of a list
};

struct FdtNode {
  Text name;
  uint32_t depth = 0;          // the root has 0
  uint32_t address_cells = 2;  // of the parent: for this node's reg
  uint32_t size_cells = 1;
  uint64_t properties = 0;  // where the first one lies
  uint64_t strings = 0;

  FdtProperty property(Text name) const;
  bool is_compatible(Text wanted) const { return property("compatible").has_string(wanted); }
  // Entry `index` of reg. False: there is none.
  bool reg(uint32_t index, uint64_t* address, uint64_t* size) const;
  // Entry `index` of interrupts, as the GIC's binding has them.
  InterruptLine interrupt(uint32_t index) const;
};

// All nodes, parents before their children.
class FdtWalk {
 public:
  explicit FdtWalk(uint64_t fdt);
  bool is_devicetree() const { return place_ != 0; }
  bool next(FdtNode* node);

 private:
  static constexpr uint32_t kMaxDepth = 16;
  struct Cells {
    uint32_t address, size;
  };
  uint64_t place_ = 0;
  uint64_t strings_ = 0;
  uint32_t depth_ = 0;  // of the next node
  Cells cells_[kMaxDepth + 1] = {};
};

}  // namespace guest
