#include "acpi.h"

#include "cpu.h"
#include "lib/boot_info.h"
#include "lib/processors.h"
#include "lib/serial.h"

namespace guest {
namespace {

uint64_t scan(uint64_t start, uint64_t end, Text signature) {
  for (uint64_t address = start; address < end; address += 16) {
    if (at<char>(address, 0) == signature.data[0] &&
        Text(reinterpret_cast<const char*>(address), signature.size) == signature) {
      return address;
    }
  }
  return 0;
}

uint64_t ebda() {
  return static_cast<uint64_t>(at<uint16_t>(0x40e, 0)) << 4;
}

uint64_t scan_usual_places(Text signature) {
  const uint64_t area = ebda();
  uint64_t found = 0;
  if (area >= 0x80000 && area < 0xa0000) found = scan(area, area + 1024, signature);
  if (found == 0) found = scan(0x9fc00, 0xa0000, signature);
  if (found == 0) found = scan(0xe0000, 0x100000, signature);
  return found;
}

Processors* list = nullptr;  // visitors have no context

void add_processor(uint32_t id) {
  if (list->count < Processors::kMax) list->ids[list->count++] = id;
}

void visit_processor(uint8_t type, uint64_t entry, uint8_t) {
  if (type == 0 && (at<uint32_t>(entry, 4) & 1) != 0) add_processor(at<uint8_t>(entry, 3));
  if (type == 9 && (at<uint32_t>(entry, 8) & 1) != 0) add_processor(at<uint32_t>(entry, 4));
}

void list_mp_processors() {
  const uint64_t pointer = find_mp_pointer();
  if (pointer == 0) return;
  const uint64_t table = at<uint32_t>(pointer, 4);
  const uint16_t entries = at<uint16_t>(table, 34);
  uint64_t entry = table + 44;
  for (uint32_t i = 0; i < entries; i++) {
    const uint8_t type = at<uint8_t>(entry, 0);
    if (type == 0 && (at<uint8_t>(entry, 3) & 1) != 0) add_processor(at<uint8_t>(entry, 1));
    entry += type == 0 ? 20 : 8;
  }
}

Text wanted;
uint64_t found_table = 0;
void visit_wanted(uint64_t address) {
  if (Text(reinterpret_cast<const char*>(address), 4) == wanted) found_table = address;
}

}  // namespace

uint8_t byte_sum(uint64_t address, size_t len) {
  uint8_t sum = 0;
  for (size_t i = 0; i < len; i++) sum = static_cast<uint8_t>(sum + at<uint8_t>(address, i));
  return sum;
}

uint64_t find_rsdp() {
  const uint64_t told = boot_info().rsdp;
  return told != 0 ? told : scan_usual_places("RSD PTR ");
}

void visit_tables(uint64_t rsdp, TableVisitor visit) {
  const bool extended = at<uint8_t>(rsdp, 15) >= 2;
  const uint64_t root = extended ? at<uint64_t>(rsdp, 24) : at<uint32_t>(rsdp, 16);
  const size_t width = extended ? 8 : 4;
  const size_t count = (at<uint32_t>(root, 4) - 36) / width;
  visit(root);
  for (size_t i = 0; i < count; i++) {
    const uint64_t slot = root + 36 + i * width;
    const uint64_t table = at<uint32_t>(slot, 0) | (extended ? static_cast<uint64_t>(at<uint32_t>(slot, 4)) << 32 : 0);
    visit(table);
    if (Text(reinterpret_cast<const char*>(table), 4) == Text("FACP")) {
      const uint32_t len = at<uint32_t>(table, 4);
      uint64_t dsdt = len >= 148 ? at<uint32_t>(table, 140) : 0;
      if (dsdt == 0) dsdt = at<uint32_t>(table, 40);
      if (dsdt != 0) visit(dsdt);
    }
  }
}

uint64_t find_table(uint64_t rsdp, const char* signature) {
  wanted = signature;
  found_table = 0;
  if (rsdp != 0) visit_tables(rsdp, visit_wanted);
  return found_table;
}

void visit_madt(uint64_t madt, EntryVisitor visit) {
  const uint64_t end = madt + at<uint32_t>(madt, 4);
  uint64_t entry = madt + 44;
  while (entry + 2 <= end) {
    const uint8_t len = at<uint8_t>(entry, 1);
    if (len < 2) return;
    visit(at<uint8_t>(entry, 0), entry, len);
    entry += len;
  }
}

uint64_t find_mp_pointer() {
  return scan_usual_places("_MP_");
}

void list_processors(Processors* out) {
  list = out;
  out->count = 0;
  const uint64_t madt = find_table(find_rsdp(), "APIC");
  if (madt != 0) {
    visit_madt(madt, visit_processor);
  } else {
    list_mp_processors();
  }
}

}  // namespace guest
