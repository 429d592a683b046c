#include "config/socket_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <array>

#include "config/property.h"

namespace strato {
namespace {

constexpr Property kUnixPath = text<&SocketConfig::path>("path", "", kMaxUnixPathLength);
constexpr Property kPort = integer<&SocketConfig::port>("port", "", 1, 65535);

Result<SocketConfig> parse_tcp(std::string_view uri, std::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) {
    return std::unexpected(Error::invalid(fmt::format("'{}': must be tcp:ADDRESS:PORT", uri)));
  }
  std::string_view host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (!is_numeric_address(host)) {
    return std::unexpected(
        Error::invalid(fmt::format("'{}': '{}' must be a numeric address such as 127.0.0.1", uri, host)));
  }
  const Result<PropertyValue> port =
      parse_value(kPort, KeyValue{.key = {}, .value = std::string(address.substr(colon + 1))});
  if (!port) return std::unexpected(Error::invalid(fmt::format("'{}': the port {}", uri, port.error().text())));
  SocketConfig socket;
  socket.host = host;
  socket.port = static_cast<uint16_t>(port->number);
  return socket;
}

}  // namespace

bool is_numeric_address(std::string_view host) {
  const std::string text(host);
  std::array<unsigned char, sizeof(in6_addr)> address;
  return ::inet_pton(AF_INET, text.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), address.data()) == 1;
}

Result<SocketConfig> parse_socket_uri(std::string_view uri) {
  if (uri.starts_with("tcp:")) return parse_tcp(uri, uri.substr(4));
  if (!uri.starts_with("unix:")) {
    return std::unexpected(Error::invalid(fmt::format("'{}': must be unix:PATH or tcp:ADDRESS:PORT", uri)));
  }
  SocketConfig socket;
  socket.path = uri.substr(5);
  const Result<PropertyValue> path = parse_value(kUnixPath, KeyValue{.key = {}, .value = socket.path});
  if (!path) return std::unexpected(Error::invalid(fmt::format("'{}': the path {}", uri, path.error().text())));
  return socket;
}

}  // namespace strato
