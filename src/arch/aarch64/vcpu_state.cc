#include "arch/aarch64/vcpu_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "arch/aarch64/register_id.h"

namespace strato::arch {

std::vector<uint64_t> registers_to_save(std::span<const uint64_t> listed) {
  std::vector<uint64_t> ids;
  for (const bool firmware : {true, false}) {
    for (const uint64_t id : listed) {
      if (register_id::is_firmware(id) == firmware && !register_id::is_counter(id)) ids.push_back(id);
    }
  }
  return ids;
}

Result<> check_registers(const std::vector<state::Register>& saved, std::span<const uint64_t> here) {
  std::vector<uint64_t> known(here.begin(), here.end());
  std::ranges::sort(known);
  std::vector<uint64_t> ids;
  for (const state::Register& reg : saved) {
    if (!register_id::is_arm64(reg.id) || register_id::is_counter(reg.id)) {
      return std::unexpected(Error::invalid(fmt::format("saved register {:#x} is none of a vCPU", reg.id)));
    }
    if (reg.bytes.size() != register_id::bytes(reg.id)) {
      return std::unexpected(
          Error::invalid(fmt::format("saved register {} has {} bytes", register_id::name(reg.id), reg.bytes.size())));
    }
    if (!std::ranges::binary_search(known, reg.id)) {
      return std::unexpected(Error::unsupported(fmt::format(
          "this host's KVM, or this vCPU, has no register {}, which was saved", register_id::name(reg.id))));
    }
    ids.push_back(reg.id);
  }
  std::ranges::sort(ids);
  if (const auto twice = std::ranges::adjacent_find(ids); twice != ids.end()) {
    return std::unexpected(Error::invalid(fmt::format("register {} was saved twice", register_id::name(*twice))));
  }
  // Others may be new in this host's KVM: what they have at power-on is what the guest knew.
  for (const uint64_t id : known) {
    if (register_id::kind(id) == register_id::kCore && !std::ranges::binary_search(ids, id)) {
      return std::unexpected(Error::invalid(fmt::format("register {} was not saved", register_id::name(id))));
    }
  }
  return {};
}

}  // namespace strato::arch
