// Errors as values (docs/decisions/0001-errors-as-values.md).
#pragma once

#include <expected>
#include <utility>

#include "base/error.h"

namespace strato {

template <class T = void>
using Result = std::expected<T, Error>;

// Unwraps an expected or returns its error from the enclosing function. Stands alone in its statement: g++ 12 does not
// destroy temporaries of a half-built expression when a statement expression returns (tools/presubmit checks the
// forms):
//   T x = STRATO_TRY(f());    x = STRATO_TRY(f());    STRATO_TRY(f());
#define STRATO_TRY(...)                                              \
  __extension__({                                                    \
    auto strato_try_result_ = (__VA_ARGS__);                         \
    if (!strato_try_result_.has_value()) [[unlikely]]                \
      return std::unexpected(std::move(strato_try_result_).error()); \
    *std::move(strato_try_result_);                                  \
  })

}  // namespace strato
