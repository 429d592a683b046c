// The ACPI tables: what Linux needs to find processors, interrupts and virtio-mmio devices, and to power off. A PC is
// started with them directly; an Arm machine needs firmware for that (decision 0011).
// Spec:    ACPI 6.3, hardware-reduced (§4.1): FADT, MADT, DSDT, XSDT, RSDP; on Arm GTDT, SPCR, IORT as well.
// Missing: NUMA (SRAT, SLIT), PCI (MCFG), CPU and memory hotplug objects, PPTT.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "boot/aml.h"
#include "boot/byte_writer.h"
#include "boot/platform_tables.h"

namespace strato::boot {

struct AcpiTable {
  std::string signature;  // "DSDT", ...; "RSDP" for the root pointer
  uint64_t address = 0;   // guest-physical
  Bytes bytes;
};

// The root pointer goes to `rsdp_address`, the other tables from `start` on, up to `end`. The last element is the RSDP.
// Fails when the tables do not fit.
Result<std::vector<AcpiTable>> build_acpi_tables(const PlatformTables& platform, uint64_t start, uint64_t end,
                                                 uint64_t rsdp_address);

// The contents of the DSDT, without its header.
aml::Terms build_dsdt(const PlatformTables& platform);

}  // namespace strato::boot
