#include "config/net_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

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

// The whole of `text` as a number.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  T number{};
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

// What is before `separator`, which goes as well; none: it is not there.
std::optional<std::string_view> cut(std::string_view& rest, char separator) {
  const size_t end = rest.find(separator);
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view before = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return before;
}

std::optional<Ipv4Bytes> parse_ipv4(std::string_view text) {
  Ipv4Bytes address{};
  for (size_t i = 0; i < address.size(); ++i) {
    std::optional<std::string_view> part = i + 1 < address.size() ? cut(text, '.') : text;
    const std::optional<uint8_t> byte = part ? parse_number<uint8_t>(*part) : std::nullopt;
    if (!byte) return std::nullopt;
    address[i] = *byte;
  }
  return address;
}

Result<UserNetwork> parse_user_network(std::string_view text) {
  const auto refuse = [text](std::string_view what) {
    return std::unexpected(Error::invalid(fmt::format("net={}: {}", text, what)));
  };
  UserNetwork network;
  std::string_view rest = text;
  const std::optional<std::string_view> before = cut(rest, '/');
  const std::optional<Ipv4Bytes> address = parse_ipv4(before ? *before : rest);
  if (!address) return refuse("must be ADDRESS or ADDRESS/BITS, such as 10.0.2.0/24");
  if (before) {
    const std::optional<uint8_t> bits = parse_number<uint8_t>(rest);
    if (!bits || *bits < 8 || *bits > 27) return refuse("BITS must be 8..27");
    network.prefix_bits = *bits;
  }
  network.address = *address;
  const Ipv4Bytes mask = network.mask();
  for (size_t i = 0; i < mask.size(); ++i) {
    if ((network.address[i] & ~mask[i]) != 0) return refuse("the address has bits beyond its network");
  }
  return network;
}

// QEMU's [tcp|udp]:[host address]:host port-[guest address]:guest port
Result<PortForward> parse_forward(std::string_view text, const UserNetwork& network) {
  const auto refuse = [text](std::string_view what) {
    return std::unexpected(Error::invalid(fmt::format("hostfwd={}: {}", text, what)));
  };
  PortForward forward;
  std::string_view rest = text;
  const std::optional<std::string_view> protocol = cut(rest, ':');
  const std::optional<std::string_view> host_address = cut(rest, ':');
  const std::optional<std::string_view> host_port = cut(rest, '-');
  const std::optional<std::string_view> guest_address = cut(rest, ':');
  if (!protocol || !host_address || !host_port || !guest_address) {
    return refuse("must be [tcp|udp]:[HOST ADDRESS]:PORT-[GUEST ADDRESS]:PORT");
  }
  if (*protocol != "" && *protocol != "tcp" && *protocol != "udp") return refuse("only tcp and udp");
  forward.udp = *protocol == "udp";
  if (!host_address->empty() && !parse_ipv4(*host_address)) return refuse("the host's address is none of IPv4");
  forward.host_address = *host_address;
  const std::optional<uint16_t> from = parse_number<uint16_t>(*host_port);
  const std::optional<uint16_t> to = parse_number<uint16_t>(rest);
  if (from.value_or(0) == 0 || to.value_or(0) == 0) return refuse("a port is 1..65535");
  if (!guest_address->empty() && parse_ipv4(*guest_address) != network.guest()) {
    return refuse(fmt::format("the guest's address is {}", ipv4_text(network.guest())));
  }
  forward.host_port = *from;
  forward.guest_port = *to;
  return forward;
}

Result<> check_user(NetdevConfig& user) {
  if (!user.net_text.empty()) user.network = STRATO_TRY(parse_user_network(user.net_text));
  if (!user.dns.empty() && !parse_ipv4(user.dns)) {
    return std::unexpected(Error::invalid(fmt::format("dns={}: must be an IPv4 address", user.dns)));
  }
  std::string_view rest = user.forward_list;
  while (!rest.empty()) {
    std::optional<std::string_view> one = cut(rest, kRepeatedKeySeparator);
    if (!one) one = std::exchange(rest, {});
    PortForward forward = STRATO_TRY(parse_forward(*one, user.network));
    user.forwards.push_back(std::move(forward));
  }
  if (user.restrict_guest && !user.forwards.empty()) {
    return std::unexpected(Error::unsupported("restrict=on and hostfwd= exclude each other: passt has no such rule"));
  }
  return {};
}

Result<NetdevConfig> parse_checked(const ObjectOptions& options, size_t kind) {
  NetdevConfig netdev;
  netdev.kind = static_cast<NetdevKind>(kind);
  STRATO_TRY(parse_object(options, kNetdevTables[kind], netdev));
  switch (netdev.kind) {
    case NetdevKind::Tap:
      STRATO_TRY(check_tap(netdev));
      break;
    case NetdevKind::Stream:
      STRATO_TRY(check_stream(netdev));
      break;
    case NetdevKind::User:
      STRATO_TRY(check_user(netdev));
      break;
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

std::string ipv4_text(const Ipv4Bytes& address) {
  return fmt::format("{}", fmt::join(address, "."));
}

Ipv4Bytes UserNetwork::mask() const {
  Ipv4Bytes mask{};
  for (uint8_t bit = 0; bit < prefix_bits; ++bit) mask[bit / 8] |= static_cast<uint8_t>(0x80U >> bit % 8);
  return mask;
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
