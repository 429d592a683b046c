#pragma once

#include <fmt/format.h>

#include <optional>
#include <string_view>

#include "base/result.h"
#include "migration/saved_machine.h"
#include "state/format.h"

namespace strato {

// The state of a component in a saved machine; none when there is no saved machine.
template <class State>
Result<std::optional<State>> saved_state(const SavedMachine* saved, std::string_view name) {
  if (saved == nullptr) return std::nullopt;
  const SavedComponent* component = saved->find(name);
  if (component == nullptr) return std::unexpected(Error::invalid(fmt::format("-incoming: no state of {}", name)));
  State state = STRATO_TRY(state::from_bytes<State>(component->state));
  return state;
}

}  // namespace strato
