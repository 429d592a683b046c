// KVM's GICv2 or GICv3, and the ITS of a GICv3. "platform_" files speak to KVM of an aarch64 host; the rest is pure.
// Threads: control loop. No vCPU may be inside an ioctl meanwhile: KVM answers EBUSY.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "arch/aarch64/gic_registers.h"
#include "arch/aarch64/gic_state.h"
#include "base/result.h"
#include "boot/platform_tables.h"
#include "bus/component.h"
#include "hypervisor/kvm/aarch64.h"
#include "hypervisor/kvm/vm.h"

namespace strato::arch {

class KvmGic final : public Component {
 public:
  // Before the first vCPU. `version`: 2 or 3; the best of the host without one. The error says what the host has.
  static Result<std::unique_ptr<KvmGic>> create(const Vm& vm, std::optional<uint8_t> version, uint32_t cpus);

  uint8_t version() const { return version_; }
  // Addresses and size; works from then on. When all vCPUs are there; `mpidrs` in the order of their ids.
  Result<> start(std::vector<uint64_t> mpidrs);
  void describe(boot::Gic& gic) const;

  std::string_view component_name() const override { return "gic"; }
  void reset(Done done) override;
  Result<> prepare_save() override;
  Result<std::vector<std::byte>> save() const override;
  Result<> restore(std::span<const std::byte> bytes);

 private:
  KvmGic(KvmDevice device, uint8_t version, uint32_t cpus)
      : device_(std::move(device)), version_(version), cpus_(cpus) {}
  uint64_t attribute(size_t cpu, uint32_t offset) const;
  Result<> set_addresses() const;
  Result<uint64_t> read(gic::Group group, uint64_t attribute, const gic::Register& reg) const;
  Result<> write(gic::Group group, uint64_t attribute, uint64_t value, std::string_view name) const;
  Result<std::vector<state::Register>> read_all(gic::Group group, size_t cpu,
                                                const std::vector<gic::Register>& list) const;
  Result<> write_all(gic::Group group, size_t cpu, const std::vector<gic::Register>& list,
                     const std::vector<state::Register>& saved) const;
  Result<std::vector<gic::Register>> cpu_interface(size_t cpu) const;
  Result<uint32_t> line_levels(size_t cpu, uint32_t first) const;
  Result<> set_line_levels(size_t cpu, uint32_t first, uint32_t levels) const;
  Result<GicState> capture() const;
  Result<> apply(const GicState& state) const;
  Result<> power_on() const;

  const KvmDevice device_;
  const uint8_t version_;
  const uint32_t cpus_;
  std::vector<uint64_t> mpidrs_;
};

class KvmIts final : public Component {
 public:
  // None where KVM has no ITS.
  static Result<std::unique_ptr<KvmIts>> create(const Vm& vm);
  // After KvmGic::start().
  Result<> start();

  std::string_view component_name() const override { return "its"; }
  void reset(Done done) override;
  // Writes the tables to guest memory.
  Result<> prepare_save() override;
  Result<std::vector<std::byte>> save() const override;
  Result<> restore(std::span<const std::byte> bytes);

 private:
  explicit KvmIts(KvmDevice device) : device_(std::move(device)) {}
  const KvmDevice device_;
};

}  // namespace strato::arch
