// What -netdev says, as a typed value; the tables are in net_table.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/object_options.h"

namespace strato {

inline constexpr uint64_t kMaxNetPairs = 16;

// In the order of kNetdevTables.
enum class NetdevKind : uint8_t { Tap, Stream, User };

using Ipv4Bytes = std::array<uint8_t, 4>;
std::string ipv4_text(const Ipv4Bytes& address);

// A port of the host that leads to one of the guest.
struct PortForward {
  bool udp = false;
  std::string host_address{};  // empty: all of them
  uint16_t host_port = 0;
  uint16_t guest_port = 0;
  bool operator==(const PortForward&) const = default;
};

// The network of -netdev user, with QEMU's places in it.
struct UserNetwork {
  Ipv4Bytes address{10, 0, 2, 0};
  uint8_t prefix_bits = 24;
  Ipv4Bytes guest() const { return at(15); }
  Ipv4Bytes gateway() const { return at(2); }  // which is the host as well
  Ipv4Bytes mask() const;
  bool operator==(const UserNetwork&) const = default;

 private:
  Ipv4Bytes at(uint8_t place) const {
    Ipv4Bytes there = address;
    there[3] = static_cast<uint8_t>(there[3] + place);
    return there;
  }
};

struct NetdevConfig {
  NetdevKind kind = NetdevKind::Tap;
  std::string id{};

  // Tap. Either of ifname and fds.
  std::string ifname{};
  std::optional<uint32_t> fd{};
  std::string fd_list{};           // ids with ':' between them
  std::vector<int> fds{};          // fd or fd_list
  std::optional<uint16_t> queues;  // pairs, with ifname
  bool vhost = false;              // frames by the host's kernel, else by us
  bool vhost_force = false;        // or not at all
  std::optional<uint32_t> vhost_fd{};
  std::string vhost_fd_list{};   // ids with ':' between them
  std::vector<int> vhost_fds{};  // vhost_fd or vhost_fd_list, one for each pair; empty: opened by us
  bool macnat = false;

  // Stream.
  std::string path{};
  bool server = false;
  uint32_t reconnect_s = 0;
  uint32_t reconnect_ms = 0;  // or reconnect_s; both 0: never

  // User.
  std::string net_text{};
  std::string dns{};
  std::string forward_list{};
  bool restrict_guest = false;  // it reaches nobody
  UserNetwork network{};
  std::vector<PortForward> forwards{};

  // After the checks.
  std::vector<int> descriptors() const;  // that the caller has opened
  size_t pairs() const { return fds.empty() ? queues.value_or(1) : fds.size(); }
  bool operator==(const NetdevConfig&) const = default;
};

// Errors name the option and what is wrong in it.
Result<NetdevConfig> parse_netdev(const ObjectOptions& options);
// All of them; no descriptor is named twice.
Result<std::vector<NetdevConfig>> parse_netdevs(std::span<const ObjectOptions> netdevs);

// The one with this id, or nullptr.
const NetdevConfig* find_netdev(std::span<const NetdevConfig> netdevs, std::string_view id);

using MacBytes = std::array<uint8_t, 6>;
// `52:54:00:12:34:56`. None: it is not one, or one that no single station can have.
std::optional<MacBytes> parse_mac(std::string_view text);
std::string mac_text(const MacBytes& mac);

}  // namespace strato
