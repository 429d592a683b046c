#include <fmt/format.h>

#include <array>

#include "boot/acpi_arm.h"
#include "boot/acpi_tables.h"

namespace strato::boot {
namespace {

using aml::Term;
using aml::Terms;

Term edge_interrupt(uint32_t gsi) {
  return aml::interrupt(aml::Trigger::Edge, aml::Polarity::ActiveHigh, gsi);
}

Term memory_window(uint64_t base, uint32_t size_bytes) {
  if (base > UINT32_MAX) return aml::qword_memory(aml::Access::ReadWrite, base, size_bytes);
  return aml::memory32_fixed(aml::Access::ReadWrite, static_cast<uint32_t>(base), size_bytes);
}

// What ACPI calls interrupt `gsi` of the machine.
uint32_t acpi_gsi(const PlatformTables& platform, uint32_t gsi) {
  return platform.arm ? acpi::kFirstSpi + gsi : gsi;
}

Term pl011(const SerialPort& serial, uint32_t gsi) {
  constexpr uint32_t kRegisterBytes = 0x1000;
  const Term interrupt = aml::interrupt(aml::Trigger::Level, aml::Polarity::ActiveHigh, gsi);
  return aml::device(
      "COM1", {
                  aml::name("_HID", aml::string("ARMH0011")),
                  aml::name("_UID", aml::integer(0)),
                  aml::name("_CRS", aml::resource_template({memory_window(serial.address, kRegisterBytes), interrupt})),
              });
}

// §8.4: a processor of the MADT, by its UID.
Term processor(uint32_t uid) {
  STRATO_ASSERT(uid <= 0xfff);
  return aml::device(fmt::format("C{:03X}", uid), {
                                                      aml::name("_HID", aml::string("ACPI0007")),
                                                      aml::name("_UID", aml::integer(uid)),
                                                  });
}

Term uart_16550(const SerialPort& serial) {
  constexpr uint8_t kRegisters = 8;
  return aml::device(
      "COM1",
      {
          aml::name("_HID", aml::eisa_id("PNP0501")),
          aml::name("_UID", aml::integer(0)),
          aml::name("_CRS", aml::resource_template({aml::io_port(static_cast<uint16_t>(serial.address), kRegisters),
                                                    edge_interrupt(serial.gsi)})),
      });
}

Term virtio_mmio(const VirtioMmioWindow& window, uint32_t gsi) {
  STRATO_ASSERT(window.uid <= 0xfff);
  return aml::device(fmt::format("V{:03X}", window.uid),
                     {
                         aml::name("_HID", aml::string("LNRO0005")),
                         aml::name("_UID", aml::integer(window.uid)),
                         aml::name("_CCA", aml::integer(1)),
                         aml::name("_CRS", aml::resource_template(
                                               {memory_window(window.base, window.size_bytes), edge_interrupt(gsi)})),
                     });
}

// §5.6.9: tells `object`, when its bit was in the register.
Term tell(uint32_t event, std::string_view object) {
  constexpr uint64_t kChanged = 0x80;
  return aml::if_true(aml::bit_and(aml::local(0), aml::integer(event)),
                      {aml::notify(aml::path(object), aml::integer(kChanged))});
}

// Hardware-reduced ACPI has no fixed power button (§4.8.2.2): the event device tells of one that is a device.
Term event_device(const EventDevice& ged, uint32_t gsi, bool vm_generation) {
  constexpr uint64_t kRegisterBytes = 4;
  Terms events{
      // The read clears the register: once.
      aml::store(aml::path("ESEL"), aml::local(0)),
      tell(EventDevice::kPowerButton, "PWRB"),
  };
  if (vm_generation) events.push_back(tell(EventDevice::kVmGeneration, "VGEN"));
  constexpr aml::FieldUnit kUnits[] = {{"ESEL", 32}};
  return aml::device("GED", {
                                aml::name("_HID", aml::string("ACPI0013")),
                                aml::name("_UID", aml::integer(0)),
                                aml::name("_CRS", aml::resource_template({edge_interrupt(gsi)})),
                                aml::operation_region("EREG", aml::RegionSpace::SystemMemory, ged.base, kRegisterBytes),
                                aml::field("EREG", aml::FieldAccess::Dword, aml::FieldLock::No,
                                           aml::FieldUpdate::WriteAsZeros, kUnits),
                                aml::method("_EVT", 1, aml::Serialize::Yes, events),
                            });
}

Term power_button() {
  return aml::device("PWRB", {
                                 aml::name("_HID", aml::eisa_id("PNP0C0C")),
                                 aml::name("_UID", aml::integer(0)),
                             });
}

// Microsoft's specification of 2012 wants the _CID; kernels match it as they spell it themselves.
Term vm_generation(const VmGeneration& generation) {
  constexpr uint64_t kLow = 0xffff'ffff;
  return aml::device("VGEN",
                     {
                         aml::name("_HID", aml::string("STRA0001")),
                         aml::name("_CID", aml::package({aml::string("VM_Gen_Counter"), aml::string("VM_GEN_COUNTER"),
                                                         aml::string("VMGENCTR")})),
                         aml::name("_DDN", aml::string("VM_Gen_Counter")),
                         aml::name("ADDR", aml::package({aml::integer(generation.address & kLow),
                                                         aml::integer(generation.address >> 32)})),
                     });
}

}  // namespace

aml::Terms build_dsdt(const PlatformTables& platform) {
  Terms devices;
  if (platform.arm) {
    for (uint32_t uid = 0; uid < platform.cpus.size(); ++uid) devices.push_back(processor(uid));
  }
  if (platform.serial) {
    const SerialPort& serial = *platform.serial;
    devices.push_back(serial.kind == SerialKind::Pl011 ? pl011(serial, acpi_gsi(platform, serial.gsi))
                                                       : uart_16550(serial));
  }
  for (const VirtioMmioWindow& window : platform.virtio_mmio) {
    devices.push_back(virtio_mmio(window, acpi_gsi(platform, window.gsi)));
  }
  if (platform.event_device) {
    devices.push_back(power_button());
    if (platform.vm_generation) devices.push_back(vm_generation(*platform.vm_generation));
    devices.push_back(event_device(*platform.event_device, acpi_gsi(platform, platform.event_device->gsi),
                                   platform.vm_generation.has_value()));
  }
  if (platform.arm) return {aml::scope("_SB", devices)};  // PSCI powers off
  // §7.4.2: SLP_TYP values of the soft-off state.
  constexpr uint64_t kSoftOff = 5;
  return {
      aml::scope("_SB", devices),
      aml::name("_S5", aml::package({aml::integer(kSoftOff), aml::integer(0), aml::integer(0), aml::integer(0)})),
  };
}

}  // namespace strato::boot
