#include "machine.h"

namespace guest {
namespace {

Machine found;

void add_window(const FdtNode& node) {
  VirtioWindow window;
  uint64_t size = 0;
  if (!node.reg(0, &window.base, &size) || found.window_count == Machine::kMaxWindows) return;
  window.interrupt = node.interrupt(0);
  size_t place = found.window_count++;
  for (; place > 0 && found.windows[place - 1].base > window.base; place--) {
    found.windows[place] = found.windows[place - 1];
  }
  found.windows[place] = window;
}

void read_gic(const FdtNode& node) {
  const bool v3 = node.is_compatible("arm,gic-v3");
  found.gic_version = v3 ? 3 : 2;
  uint64_t size = 0;
  node.reg(0, &found.distributor, &size);
  if (!v3) {
    node.reg(1, &found.cpu_interface, &size);
    return;
  }
  const FdtProperty regions = node.property("#redistributor-regions");
  const uint32_t count = regions.size != 0 ? regions.cell(0) : 1;
  for (uint32_t i = 0; i < count && i < Machine::kMaxRedistributorRegions; i++) {
    Area& area = found.redistributors[i];
    if (!node.reg(1 + i, &area.base, &area.size)) return;
    found.redistributor_regions++;
  }
}

void read_node(const FdtNode& node) {
  uint64_t size = 0;
  if (node.depth == 0) {
    found.compatible = node.property("compatible").text();
  } else if (node.property("device_type").has_string("cpu")) {
    uint64_t id = 0;
    Processors& processors = found.processors;
    if (node.reg(0, &id, &size) && processors.count < Processors::kMax) processors.ids[processors.count++] = id;
  } else if (node.is_compatible("arm,psci-1.0") || node.is_compatible("arm,psci-0.2")) {
    found.psci = node.property("method").text();
    found.calls_by_smc = found.psci == "smc";
  } else if (node.is_compatible("arm,gic-v3") || node.is_compatible("arm,cortex-a15-gic") ||
             node.is_compatible("arm,gic-400")) {
    read_gic(node);
  } else if (node.is_compatible("arm,gic-v3-its")) {
    node.reg(0, &found.its, &size);
  } else if (node.is_compatible("arm,armv8-timer")) {
    found.timer_interrupt = node.interrupt(2);
  } else if (node.is_compatible("arm,pl011")) {
    if (found.uart != 0) return;
    node.reg(0, &found.uart, &size);
    found.uart_interrupt = node.interrupt(0);
  } else if (node.is_compatible("arm,pl031")) {
    node.reg(0, &found.rtc, &size);
    found.rtc_interrupt = node.interrupt(0);
  } else if (node.is_compatible("virtio,mmio")) {
    add_window(node);
  } else if (node.name == "chosen") {
    found.kaslr_seed = node.property("kaslr-seed").number();
    found.rng_seed = node.property("rng-seed").cells(0, 2);
  }
}

}  // namespace

const Machine& machine() {
  return found;
}

void read_machine(uint64_t fdt) {
  FdtWalk walk(fdt);
  if (!walk.is_devicetree()) return;
  found.uart = 0;
  for (FdtNode node; walk.next(&node);) read_node(node);
}

}  // namespace guest
