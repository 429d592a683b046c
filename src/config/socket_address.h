#pragma once

#include <string_view>

#include "base/result.h"
#include "config/vm_config.h"

namespace strato {

// `unix:PATH` or `tcp:ADDRESS:PORT`; ADDRESS is numeric, IPv6 stands in brackets. Names are not resolved: a static
// program has no resolver.
Result<SocketConfig> parse_socket_uri(std::string_view uri);
// IPv4 or IPv6 in digits, without brackets.
bool is_numeric_address(std::string_view host);

}  // namespace strato
