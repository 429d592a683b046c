// vm_generation: a number in memory that is another one for each copy of a machine, so that two guests that were
// restored from one saved machine do not use the same random numbers.
// Spec:    Microsoft, "Virtual Machine Generation ID" (2012): 16 bytes, 8-byte aligned, in memory that the guest does
//          not take for RAM.
// Threads: control loop.
// Limits:  none needed: the guest may overwrite the number, until a reset, and harms itself only.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "bus/component.h"
#include "memory/memory_map.h"
#include "state/field.h"

namespace strato {

struct VmGenerationState {
  static constexpr std::string_view kKind = "vmgenid";
  std::array<uint8_t, 16> id{};

  bool operator==(const VmGenerationState&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "id", &VmGenerationState::id}); }
};

class VmGeneration final : public Component {
 public:
  using Id = std::array<uint8_t, 16>;  // as it lies in memory
  static constexpr std::string_view kName = "vmgenid";

  struct Args {
    const MemoryMap& memory;  // outlives the component
    GuestAddr address;
    std::optional<Id> id{};                          // none: one that nobody else has, now and after each restore
    std::move_only_function<void()> notify = [] {};  // the guest shall look: it goes on with another number than before
  };
  // With a state: the guest is told when it runs.
  static Result<std::unique_ptr<VmGeneration>> create(Args args, const std::optional<VmGenerationState>& state);

  std::string_view component_name() const override { return kName; }
  void reset(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;

 private:
  VmGeneration(Args args, const Id& id, bool changed) : args_(std::move(args)), id_(id), changed_(changed) {}
  void write() const;

  Args args_;
  const Id id_;
  bool changed_;
};

}  // namespace strato
