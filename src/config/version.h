#pragma once

#include <string_view>

namespace strato {

// CMakeLists.txt reads it from here.
inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace strato
