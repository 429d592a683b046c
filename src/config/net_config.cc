#include "config/net_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "config/net_table.h"

namespace strato {
namespace {

Result<std::vector<int>> parse_fds(std::string_view name, std::string_view list) {
  std::vector<int> fds;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(':', begin), list.size());
    int fd = -1;
    const auto [stop, failure] = std::from_chars(list.data() + begin, list.data() + end, fd);
    if (failure != std::errc() || stop != list.data() + end || fd < 0) {
      return std::unexpected(Error::invalid(fmt::format("{}={}: must be numbers with ':' between them", name, list)));
    }
    if (std::ranges::find(fds, fd) != fds.end()) {
      return std::unexpected(Error::invalid(fmt::format("{}={}: {} is there twice", name, list, fd)));
    }
    fds.push_back(fd);
    begin = end + 1;
  }
  if (fds.size() > kMaxNetPairs) {
    return std::unexpected(Error::invalid(fmt::format("{}={}: at most {}", name, list, kMaxNetPairs)));
  }
  return fds;
}

Result<> check_vhost(NetdevConfig& tap) {
  tap.vhost = tap.vhost || tap.vhost_force;
  if (tap.vhost_fd && !tap.vhost_fd_list.empty()) {
    return std::unexpected(Error::invalid("vhostfd= and vhostfds= exclude each other"));
  }
  if (tap.vhost_fd) tap.vhost_fds = {static_cast<int>(*tap.vhost_fd)};
  if (!tap.vhost_fd_list.empty()) tap.vhost_fds = STRATO_TRY(parse_fds("vhostfds", tap.vhost_fd_list));
  if (tap.vhost_fds.empty()) return {};
  if (!tap.vhost) return std::unexpected(Error::invalid("vhostfd= and vhostfds= need vhost=on"));
  if (tap.vhost_fds.size() != tap.pairs()) {
    return std::unexpected(Error::invalid(
        fmt::format("vhostfds=: {} of them for {} queue pairs: one for each", tap.vhost_fds.size(), tap.pairs())));
  }
  for (const int fd : tap.vhost_fds) {
    if (std::ranges::find(tap.fds, fd) == tap.fds.end()) continue;
    return std::unexpected(Error::invalid(fmt::format("fd {}: tap and vhost cannot be the same", fd)));
  }
  return {};
}

// What the table alone cannot say.
Result<> check_tap(NetdevConfig& tap) {
  if (tap.macnat) return std::unexpected(Error::unsupported("macnat=on: not part of this version"));
  if (tap.fd && !tap.fd_list.empty()) return std::unexpected(Error::invalid("fd= and fds= exclude each other"));
  if (tap.fd) tap.fds = {static_cast<int>(*tap.fd)};
  if (!tap.fd_list.empty()) tap.fds = STRATO_TRY(parse_fds("fds", tap.fd_list));
  if (tap.fds.empty()) {
    if (!tap.ifname.empty()) return check_vhost(tap);
    return std::unexpected(Error::invalid("needs ifname=, fd= or fds="));
  }
  if (!tap.ifname.empty()) return std::unexpected(Error::invalid("ifname= and fd=, fds= exclude each other"));
  if (tap.queues && *tap.queues != tap.fds.size()) {
    return std::unexpected(Error::invalid(fmt::format("queues={}: there are {} fds", *tap.queues, tap.fds.size())));
  }
  return check_vhost(tap);
}

Result<> check_stream(const NetdevConfig& stream) {
  const bool again = stream.reconnect_s != 0 || stream.reconnect_ms != 0;
  if (stream.server && again) return std::unexpected(Error::invalid("reconnect= is for clients, not with server=on"));
  if (stream.reconnect_s != 0 && stream.reconnect_ms != 0) {
    return std::unexpected(Error::invalid("reconnect= and reconnect-ms= exclude each other"));
  }
  return {};
}

Result<NetdevConfig> parse_checked(const ObjectOptions& options, size_t kind) {
  NetdevConfig netdev;
  netdev.kind = static_cast<NetdevKind>(kind);
  STRATO_TRY(parse_object(options, kNetdevTables[kind], netdev));
  if (netdev.kind == NetdevKind::Tap) {
    STRATO_TRY(check_tap(netdev));
  } else {
    STRATO_TRY(check_stream(netdev));
  }
  return netdev;
}

}  // namespace

Result<NetdevConfig> parse_netdev(const ObjectOptions& options) {
  for (size_t kind = 0; kind < std::size(kNetdevTables); ++kind) {
    if (options.type != kNetdevTables[kind].type) continue;
    Result<NetdevConfig> netdev = parse_checked(options, kind);
    if (netdev) return netdev;
    return std::unexpected(std::move(netdev).error().context(fmt::format("-netdev: '{}'", options.text)));
  }
  return std::unexpected(Error::unsupported(fmt::format("-netdev {}: unsupported backend", options.text)));
}

Result<std::vector<NetdevConfig>> parse_netdevs(std::span<const ObjectOptions> netdevs) {
  std::vector<NetdevConfig> all;
  for (const ObjectOptions& options : netdevs) {
    NetdevConfig netdev = STRATO_TRY(parse_netdev(options));
    for (const NetdevConfig& before : all) {
      for (const int fd : netdev.descriptors()) {
        const std::vector<int> taken = before.descriptors();
        if (std::ranges::find(taken, fd) == taken.end()) continue;
        return std::unexpected(Error::invalid(
            fmt::format("-netdev: '{}': fd {}: netdev '{}' has it already", options.text, fd, before.id)));
      }
    }
    all.push_back(std::move(netdev));
  }
  return all;
}

std::vector<int> NetdevConfig::descriptors() const {
  std::vector<int> descriptors = fds;
  descriptors.insert(descriptors.end(), vhost_fds.begin(), vhost_fds.end());
  return descriptors;
}

const NetdevConfig* find_netdev(std::span<const NetdevConfig> netdevs, std::string_view id) {
  const auto found = std::ranges::find(netdevs, id, &NetdevConfig::id);
  return found == netdevs.end() ? nullptr : &*found;
}

std::optional<MacBytes> parse_mac(std::string_view text) {
  constexpr size_t kText = 17;
  MacBytes mac{};
  if (text.size() != kText) return std::nullopt;
  for (size_t i = 0; i < mac.size(); ++i) {
    const char* digits = text.data() + 3 * i;
    const auto [end, failure] = std::from_chars(digits, digits + 2, mac[i], 16);
    if (failure != std::errc() || end != digits + 2) return std::nullopt;
    if (i + 1 < mac.size() && *end != ':') return std::nullopt;
  }
  if ((mac[0] & 1) != 0 || mac == MacBytes{}) return std::nullopt;
  return mac;
}

std::string mac_text(const MacBytes& mac) {
  return fmt::format("{:02x}", fmt::join(mac, ":"));
}

}  // namespace strato
