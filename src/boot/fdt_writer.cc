#include "boot/fdt_writer.h"

#include <fmt/format.h>
#include <libfdt.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/endian.h"

namespace strato::boot {
namespace {

constexpr uint32_t kGicHandle = 1;
constexpr uint32_t kItsHandle = 2;
constexpr uint32_t kClockHandle = 3;
constexpr uint32_t kFirstCpuHandle = 16;

// arm,gic-v3.yaml, arm,gic.yaml: the three cells of an interrupt.
constexpr uint32_t kSpi = 0;
constexpr uint32_t kPpi = 1;
constexpr uint32_t kEdgeRising = 1;
constexpr uint32_t kLevelHigh = 4;

// Writes a tree front to back, in a buffer that grows. Linux finds devices in the order in which they stand in here.
class Tree {
 public:
  Tree() : buffer_(kFirstBytes) {
    append(fdt_create(fdt(), kFirstBytes));
    append([](void* fdt) { return fdt_finish_reservemap(fdt); });
  }

  void begin(const std::string& name) {
    append([&name](void* fdt) { return fdt_begin_node(fdt, name.c_str()); });
  }
  void end() {
    append([](void* fdt) { return fdt_end_node(fdt); });
  }
  void bytes(const char* name, std::span<const std::byte> value) {
    append([name, value](void* fdt) { return fdt_property(fdt, name, value.data(), static_cast<int>(value.size())); });
  }
  void flag(const char* name) { bytes(name, {}); }
  void text(const char* name, std::string_view value) { texts(name, {value}); }
  void texts(const char* name, std::initializer_list<std::string_view> values) {
    ByteWriter out;
    for (const std::string_view value : values) out.text(value, value.size() + 1);
    bytes(name, out.view());
  }
  void cells(const char* name, std::span<const uint32_t> values) {
    ByteWriter out;
    for (const uint32_t value : values) out.object(be32(value));
    bytes(name, out.view());
  }
  void cells(const char* name, std::initializer_list<uint32_t> values) {
    cells(name, std::span(values.begin(), values.size()));
  }
  void u64(const char* name, uint64_t value) {
    const be64 cell = value;
    bytes(name, std::as_bytes(std::span(&cell, 1)));
  }
  // Two cells each for address and size.
  void ranges(const char* name, std::span<const AddressRange> values) {
    ByteWriter out;
    for (const AddressRange& value : values) out.object(be64(value.base)).object(be64(value.size_bytes));
    bytes(name, out.view());
  }
  void reg(const AddressRange& value) { ranges("reg", std::span(&value, 1)); }

  // Nothing when it became too big.
  std::optional<Bytes> finish() && {
    append([](void* fdt) { return fdt_finish(fdt); });
    if (too_big_) return std::nullopt;
    buffer_.resize(fdt_totalsize(fdt()));
    return std::move(buffer_);
  }

 private:
  static constexpr size_t kFirstBytes = 32 * kKiB;

  void* fdt() { return buffer_.data(); }

  // There is one failure that is no bug: no more room.
  void append(int status) { STRATO_ASSERT(status == 0); }
  template <class Call>
  void append(Call&& call) {
    while (!too_big_) {
      const int status = call(fdt());
      if (status == 0) return;
      STRATO_ASSERT(status == -FDT_ERR_NOSPACE);
      grow();
    }
  }
  void grow() {
    if (buffer_.size() >= kMaxFdtBytes) {
      too_big_ = true;
      return;
    }
    Bytes bigger(buffer_.size() * 2);
    append(fdt_resize(fdt(), bigger.data(), static_cast<int>(bigger.size())));
    buffer_ = std::move(bigger);
  }

  Bytes buffer_;
  bool too_big_ = false;
};

std::string at(std::string_view name, uint64_t address) {
  return fmt::format("{}@{:x}", name, address);
}

std::vector<const Processor*> present_cpus(const PlatformTables& platform) {
  std::vector<const Processor*> cpus;
  for (const Processor& cpu : platform.cpus) {
    if (cpu.enabled) cpus.push_back(&cpu);
  }
  return cpus;
}

// A private interrupt; with GICv2 the third cell has a mask of processors too.
uint32_t ppi_flags(const PlatformTables& platform) {
  if (platform.arm->gic.version != 2) return kLevelHigh;
  constexpr size_t kMaxGicV2Cpus = 8;
  const size_t cpus = std::min(present_cpus(platform).size(), kMaxGicV2Cpus);
  return ((1U << cpus) - 1) << 8 | kLevelHigh;
}

void add_chosen(Tree& tree, const PlatformTables& platform, const FdtBoot& boot) {
  tree.begin("chosen");
  tree.text("bootargs", boot.command_line);
  if (platform.serial) tree.text("stdout-path", "/" + at("pl011", platform.serial->address));
  if (boot.initrd.size_bytes != 0) {
    tree.u64("linux,initrd-start", boot.initrd.base);
    tree.u64("linux,initrd-end", boot.initrd.base + boot.initrd.size_bytes);
  }
  tree.u64("kaslr-seed", boot.kaslr_seed);
  tree.bytes("rng-seed", boot.rng_seed);
  tree.end();
}

void add_memory(Tree& tree, std::span<const AddressRange> ram) {
  for (const AddressRange& range : ram) {
    tree.begin(at("memory", range.base));
    tree.text("device_type", "memory");
    tree.reg(range);
    tree.end();
  }
}

// cpu-map of Documentation/devicetree/bindings/cpu/cpu-topology.txt. It has no dies, and Linux knows no clusters of
// clusters: those of all dies of a socket are counted on.
void add_cpu_map(Tree& tree, const CpuTopology& topology, uint32_t cpus) {
  const uint32_t per_core = topology.threads;
  const uint32_t per_cluster = per_core * topology.cores;
  const uint32_t per_socket = per_cluster * topology.clusters * topology.dies;
  tree.begin("cpu-map");
  for (uint32_t cpu = 0; cpu < cpus; ++cpu) {
    if (cpu % per_socket == 0) tree.begin(fmt::format("socket{}", cpu / per_socket));
    if (cpu % per_cluster == 0) tree.begin(fmt::format("cluster{}", cpu % per_socket / per_cluster));
    if (cpu % per_core == 0) tree.begin(fmt::format("core{}", cpu % per_cluster / per_core));
    if (per_core > 1) tree.begin(fmt::format("thread{}", cpu % per_core));
    tree.cells("cpu", {kFirstCpuHandle + cpu});
    if (per_core > 1) tree.end();
    const uint32_t next = cpu + 1;
    if (next % per_core == 0 || next == cpus) tree.end();
    if (next % per_cluster == 0 || next == cpus) tree.end();
    if (next % per_socket == 0 || next == cpus) tree.end();
  }
  tree.end();
}

void add_cpus(Tree& tree, const PlatformTables& platform) {
  const std::vector<const Processor*> cpus = present_cpus(platform);
  STRATO_ASSERT(!cpus.empty() && cpus.size() <= platform.topology.total());
  tree.begin("cpus");
  tree.cells("#address-cells", {2});  // the affinity fields of MPIDR_EL1, Aff3 in the first
  tree.cells("#size-cells", {0});
  uint32_t handle = kFirstCpuHandle;
  for (const Processor* cpu : cpus) {
    tree.begin(at("cpu", cpu->id));
    tree.text("device_type", "cpu");
    tree.text("compatible", "arm,armv8");
    tree.u64("reg", cpu->id);
    tree.text("enable-method", "psci");
    tree.cells("phandle", {handle++});
    tree.end();
  }
  add_cpu_map(tree, platform.topology, static_cast<uint32_t>(cpus.size()));
  tree.end();

  tree.begin("psci");
  tree.texts("compatible", {"arm,psci-1.0", "arm,psci-0.2"});
  tree.text("method", "hvc");
  tree.end();
}

// arm,arch_timer.yaml: secure, not secure, virtual, hypervisor.
void add_timer_and_pmu(Tree& tree, const PlatformTables& platform) {
  const uint32_t flags = ppi_flags(platform);
  tree.begin("timer");
  tree.text("compatible", "arm,armv8-timer");
  tree.cells("interrupts", {kPpi, 13, flags, kPpi, 14, flags, kPpi, 11, flags, kPpi, 10, flags});
  tree.flag("always-on");
  tree.end();
  if (!platform.arm->pmu) return;
  tree.begin("pmu");
  tree.text("compatible", "arm,armv8-pmuv3");
  tree.cells("interrupts", {kPpi, 7, flags});
  tree.end();
}

void add_gic(Tree& tree, const Gic& gic) {
  std::vector<AddressRange> reg = {gic.distributor};
  tree.begin(at("intc", gic.distributor.base));
  if (gic.version == 2) {
    tree.text("compatible", "arm,cortex-a15-gic");
    reg.push_back(gic.cpu_interface);
  } else {
    tree.text("compatible", "arm,gic-v3");
    tree.cells("#redistributor-regions", {static_cast<uint32_t>(gic.redistributors.size())});
    reg.insert(reg.end(), gic.redistributors.begin(), gic.redistributors.end());
  }
  tree.flag("interrupt-controller");
  tree.cells("#interrupt-cells", {3});
  tree.cells("#address-cells", {2});
  tree.cells("#size-cells", {2});
  tree.flag("ranges");
  tree.ranges("reg", reg);
  tree.cells("phandle", {kGicHandle});
  if (gic.its) {
    tree.begin(at("its", gic.its->base));
    tree.text("compatible", "arm,gic-v3-its");
    tree.flag("msi-controller");
    tree.cells("#msi-cells", {1});
    tree.reg(*gic.its);
    tree.cells("phandle", {kItsHandle});
    tree.end();
  }
  tree.end();
}

constexpr uint64_t kPrimeCellBytes = 0x1000;

// arm,pl011.yaml, arm,pl031.yaml: PrimeCells, which Linux does not look at without a clock.
void add_prime_cells(Tree& tree, const PlatformTables& platform) {
  if (!platform.serial && !platform.rtc) return;
  constexpr uint32_t kClockHz = 24'000'000;
  tree.begin("apb-pclk");
  tree.text("compatible", "fixed-clock");
  tree.cells("#clock-cells", {0});
  tree.cells("clock-frequency", {kClockHz});
  tree.text("clock-output-names", "clk24mhz");
  tree.cells("phandle", {kClockHandle});
  tree.end();
  if (platform.serial) {
    STRATO_ASSERT(platform.serial->kind == SerialKind::Pl011);
    tree.begin(at("pl011", platform.serial->address));
    tree.texts("compatible", {"arm,pl011", "arm,primecell"});
    tree.reg({.base = platform.serial->address, .size_bytes = kPrimeCellBytes});
    tree.cells("interrupts", {kSpi, platform.serial->gsi, kLevelHigh});
    tree.texts("clock-names", {"uartclk", "apb_pclk"});
    tree.cells("clocks", {kClockHandle, kClockHandle});
    tree.end();
  }
  if (platform.rtc) {
    tree.begin(at("pl031", platform.rtc->address));
    tree.texts("compatible", {"arm,pl031", "arm,primecell"});
    tree.reg({.base = platform.rtc->address, .size_bytes = kPrimeCellBytes});
    tree.cells("interrupts", {kSpi, platform.rtc->gsi, kLevelHigh});
    tree.text("clock-names", "apb_pclk");
    tree.cells("clocks", {kClockHandle});
    tree.end();
  }
}

// virtio/mmio.yaml.
void add_virtio_mmio(Tree& tree, std::span<const VirtioMmioWindow> windows) {
  for (const VirtioMmioWindow& window : windows) {
    tree.begin(at("virtio_mmio", window.base));
    tree.text("compatible", "virtio,mmio");
    tree.reg({.base = window.base, .size_bytes = window.size_bytes});
    tree.cells("interrupts", {kSpi, window.gsi, kEdgeRising});
    tree.flag("dma-coherent");
    tree.end();
  }
}

// microsoft,vmgenid.yaml.
void add_vm_generation(Tree& tree, const VmGeneration& generation) {
  constexpr uint64_t kIdBytes = 16;
  tree.begin(at("vmgenid", generation.address));
  tree.text("compatible", "microsoft,vmgenid");
  tree.reg({.base = generation.address, .size_bytes = kIdBytes});
  tree.cells("interrupts", {kSpi, generation.gsi, kEdgeRising});
  tree.end();
}

}  // namespace

Result<Bytes> build_fdt(const PlatformTables& platform, const FdtBoot& boot) {
  STRATO_ASSERT(platform.arm.has_value());
  Tree tree;
  tree.begin("");
  tree.text("compatible", "linux,dummy-virt");
  tree.text("model", "linux,dummy-virt");
  tree.cells("#address-cells", {2});
  tree.cells("#size-cells", {2});
  tree.cells("interrupt-parent", {kGicHandle});
  add_chosen(tree, platform, boot);
  add_memory(tree, boot.ram);
  add_cpus(tree, platform);
  add_timer_and_pmu(tree, platform);
  add_gic(tree, platform.arm->gic);
  add_prime_cells(tree, platform);
  add_virtio_mmio(tree, platform.virtio_mmio);
  if (platform.vm_generation) add_vm_generation(tree, *platform.vm_generation);
  tree.end();
  std::optional<Bytes> fdt = std::move(tree).finish();
  if (!fdt) {
    return std::unexpected(
        Error::invalid(fmt::format("the device tree of {} processors and {} virtio devices has more than {} MiB",
                                   platform.cpus.size(), platform.virtio_mmio.size(), kMaxFdtBytes / kMiB)));
  }
  return *std::move(fdt);
}

}  // namespace strato::boot
