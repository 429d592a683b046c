// The table by which kernels without ACPI find processors and interrupt pins.
// Spec:    Intel MultiProcessor Specification 1.4, chapter 4.
// Missing: PCI buses, extended entries. Processors with APIC ids above 254 cannot be said in it and are left out.
#pragma once

#include "boot/byte_writer.h"
#include "boot/platform_tables.h"

namespace strato::boot {

struct MpTable {
  Bytes pointer;  // MP floating pointer, 16 bytes, where kernels search: x86::kEbda
  uint64_t table_address = 0;
  Bytes table;
};

// The table goes behind the pointer if it fits there, else to x86::kLargeMpTable.
MpTable build_mp_table(const PlatformTables& platform);

}  // namespace strato::boot
