// ACPI machine language, as an expression: each function gives one encoded term, and terms nest.
//
//   scope("\\_SB", {device("COM1", {name("_HID", eisa_id("PNP0501")), name("_CRS", resource_template({...}))})})
//
// Spec:    ACPI 6.3 chapters 19 and 20.
// Missing: what our tables have no use for yet (loops, mutexes, externals, index fields).
// Limits:  names and sizes are ours: a wrong one is a bug and asserts.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "boot/byte_writer.h"

namespace strato::boot::aml {

// One encoded term. The type keeps AML apart from other bytes.
struct Term {
  Bytes bytes;
};
using Terms = std::vector<Term>;

Bytes encode(const Terms& terms);

// Data (§20.2.3).
Term integer(uint64_t value);  // the shortest form
Term string(std::string_view text);
Term eisa_id(std::string_view id);  // "PNP0501"
Term package(const Terms& elements);
Term buffer(std::span<const std::byte> data);

// Names: segments of 1 to 4 characters, "\\_SB.GED", "^X", "_HID"; short ones are filled up with '_'.
Term path(std::string_view path);  // a reference to the named object
Term arg(unsigned index);          // Arg0..Arg6
Term local(unsigned index);        // Local0..Local7

// Named objects (§20.2.5).
Term name(std::string_view path, const Term& value);
Term scope(std::string_view path, const Terms& body);
Term device(std::string_view path, const Terms& body);

enum class Serialize : uint8_t { No, Yes };
Term method(std::string_view path, unsigned args, Serialize serialize, const Terms& body);

enum class RegionSpace : uint8_t { SystemMemory = 0, SystemIo = 1 };
Term operation_region(std::string_view path, RegionSpace space, uint64_t offset, uint64_t len_bytes);

enum class FieldAccess : uint8_t { Any = 0, Byte = 1, Word = 2, Dword = 3, Qword = 4 };
enum class FieldLock : uint8_t { No = 0, Yes = 1 };
enum class FieldUpdate : uint8_t { Preserve = 0, WriteAsOnes = 1, WriteAsZeros = 2 };
struct FieldUnit {
  std::string_view name;  // empty: reserved bits
  uint32_t bits;
};
Term field(std::string_view region, FieldAccess access, FieldLock lock, FieldUpdate update,
           std::span<const FieldUnit> units);

// Statements and expressions (§20.2.5.3, §20.2.5.4).
Term return_value(const Term& value);
Term if_true(const Term& predicate, const Terms& body);
Term otherwise(const Terms& body);  // directly after if_true
Term equal(const Term& a, const Term& b);
Term store(const Term& value, const Term& target);
Term bit_and(const Term& a, const Term& b);
Term notify(const Term& object, const Term& value);

// Resources (§6.4), for _CRS.
enum class Access : uint8_t { ReadOnly = 0, ReadWrite = 1 };
enum class Trigger : uint8_t { Level = 0, Edge = 1 };
enum class Polarity : uint8_t { ActiveHigh = 0, ActiveLow = 1 };

Term io_port(uint16_t base, uint8_t len_bytes);  // 16-bit decoded, fixed
Term memory32_fixed(Access access, uint32_t base, uint32_t len_bytes);
Term qword_memory(Access access, uint64_t base, uint64_t len_bytes);  // fixed, not cacheable, consumed
Term interrupt(Trigger trigger, Polarity polarity, uint32_t gsi);     // exclusive, consumed
Term resource_template(const Terms& resources);                       // adds the end tag

}  // namespace strato::boot::aml
