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
enum class NetdevKind : uint8_t { Tap, Stream };

struct NetdevConfig {
  NetdevKind kind = NetdevKind::Tap;
  std::string id{};

  // Tap. Either of ifname and fds.
  std::string ifname{};
  std::optional<uint32_t> fd{};
  std::string fd_list{};           // ids with ':' between them
  std::vector<int> fds{};          // fd or fd_list
  std::optional<uint16_t> queues;  // pairs, with ifname
  bool vhost = false;        // frames by the host's kernel, else by us
  bool vhost_force = false;  // or not at all
  std::optional<uint32_t> vhost_fd{};
  std::string vhost_fd_list{};     // ids with ':' between them
  std::vector<int> vhost_fds{};    // vhost_fd or vhost_fd_list, one for each pair; empty: opened by us
  bool macnat = false;

  // Stream.
  std::string path{};
  bool server = false;
  uint32_t reconnect_s = 0;
  uint32_t reconnect_ms = 0;  // or reconnect_s; both 0: never

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
