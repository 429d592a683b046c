// Building and reading ACPI tables in tests.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "boot/acpi_tables.h"
#include "boot/x86_layout.h"

namespace strato::boot::testing {

inline std::vector<AcpiTable> build(const PlatformTables& platform) {
  Result<std::vector<AcpiTable>> tables = build_acpi_tables(platform, x86::kAcpiTables, x86::kAcpiRsdp, x86::kAcpiRsdp);
  EXPECT_TRUE(tables.has_value());
  return tables ? *std::move(tables) : std::vector<AcpiTable>();
}

inline const AcpiTable& find(const std::vector<AcpiTable>& tables, std::string_view signature) {
  for (const AcpiTable& table : tables) {
    if (table.signature == signature) return table;
  }
  ADD_FAILURE() << "no table " << signature;
  return tables.front();
}

template <class T>
auto field(const Bytes& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value.get();
}
inline unsigned byte_at(const Bytes& bytes, size_t offset) {
  return std::to_integer<unsigned>(bytes[offset]);
}

inline std::string text_at(const Bytes& bytes, size_t offset, size_t len) {
  return {reinterpret_cast<const char*>(bytes.data()) + offset, len};
}

}  // namespace strato::boot::testing
