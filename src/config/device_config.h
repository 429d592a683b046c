// What -device and -object say, as typed values; the tables are in device_tables.h. Serves the command line and, later,
// device_add.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "config/object_options.h"

namespace strato {

// -object rng-random
struct RngRandomConfig {
  std::string id{};
  std::string filename{};
  bool operator==(const RngRandomConfig&) const = default;
};

// -device virtio-rng-device. Both of max_bytes and period_ms, or none; together 64 to 10^9 bytes per second.
struct VirtioRngConfig {
  std::string id{};
  std::string rng{};  // the id of an RngRandomConfig
  std::optional<uint64_t> max_bytes{};
  std::optional<uint64_t> period_ms{};
  bool operator==(const VirtioRngConfig&) const = default;
};

using DeviceConfig = std::variant<VirtioRngConfig>;
using BackendConfig = std::variant<RngRandomConfig>;

// Errors name the option, and what is wrong in it; Unsupported for a driver or class that there is not.
Result<DeviceConfig> parse_device(const ObjectOptions& options);
Result<BackendConfig> parse_backend(const ObjectOptions& options);

}  // namespace strato
