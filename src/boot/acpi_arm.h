// The ACPI tables that only an Arm machine has, or has in another form.
// Spec: ACPI 6.3, IORT (Arm DEN0049D), SPCR revision 2.
// Missing: DBG2, PPTT, PCI in the IORT.
#pragma once

#include "boot/byte_writer.h"
#include "boot/platform_tables.h"

namespace strato::boot::acpi {

// ACPI's number of a shared interrupt: its INTID.
inline constexpr uint32_t kFirstSpi = 32;

// Processors, distributor, redistributors or CPU interface, ITS.
Bytes build_arm_madt(const PlatformTables& platform);
// The generic timer.
Bytes build_gtdt();
// Where the console is: a PL011.
Bytes build_spcr(const SerialPort& serial);
// The ITS, which is to have a node of its own.
Bytes build_iort();

}  // namespace strato::boot::acpi
