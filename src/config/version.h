#pragma once

#include <string_view>

namespace strato {

// The version in CMakeLists.txt.
inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace strato
