// ACPI tables and the MP table, read only as far as the guests need them. Spec: ACPI 6.3 chapter 5; Intel MP 1.4
// chapter 4.
#pragma once
#include <cstddef>
#include <cstdint>

namespace guest {

uint8_t byte_sum(uint64_t address, size_t len);  // 0 when a checksum is right

// Address of the RSDP: as the loader said, else by its signature in the EBDA and the BIOS area. 0: none.
uint64_t find_rsdp();
// Calls `visit` with each table of the XSDT (RSDT), and with the DSDT behind the FADT.
using TableVisitor = void (*)(uint64_t address);
void visit_tables(uint64_t rsdp, TableVisitor visit);
uint64_t find_table(uint64_t rsdp, const char* signature);  // 0: none

// Calls `visit` with each entry of the MADT.
using EntryVisitor = void (*)(uint8_t type, uint64_t address, uint8_t len);
void visit_madt(uint64_t madt, EntryVisitor visit);

// Address of the MP floating pointer structure: last KiB of base memory, EBDA, BIOS area. 0: none.
uint64_t find_mp_pointer();

}  // namespace guest
