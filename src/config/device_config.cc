#include "config/device_config.h"

#include <fmt/format.h>

#include "config/device_tables.h"

namespace strato {
namespace {

Result<> check(const RngRandomConfig&) {
  return {};
}

Result<> check(const VirtioRngConfig& rng) {
  if (rng.max_bytes.has_value() != rng.period_ms.has_value()) {
    return std::unexpected(Error::invalid("max-bytes= and period= need each other"));
  }
  if (!rng.max_bytes) return {};
  const uint64_t scaled = *rng.max_bytes * 1000;
  if (scaled < kMinRngRate * *rng.period_ms || scaled > kMaxRngRate * *rng.period_ms) {
    return std::unexpected(Error::invalid(fmt::format("max-bytes={} in period={} ms: must be {} to {} bytes per second",
                                                      *rng.max_bytes, *rng.period_ms, kMinRngRate, kMaxRngRate)));
  }
  return {};
}

template <class Config, class Any>
Result<Any> parse_as(std::string_view option, const ObjectOptions& options, const ObjectTable& table) {
  Config config;
  Result<> parsed = parse_object(options, table, config);
  if (parsed) parsed = check(config);
  if (!parsed) {
    return std::unexpected(std::move(parsed).error().context(fmt::format("{}: '{}'", option, options.text)));
  }
  return Any(std::move(config));
}

}  // namespace

Result<DeviceConfig> parse_device(const ObjectOptions& options) {
  if (options.type == kDeviceTables[0].type) {
    return parse_as<VirtioRngConfig, DeviceConfig>("-device", options, kDeviceTables[0]);
  }
  return std::unexpected(Error::unsupported(fmt::format("-device {}: unsupported device", options.text)));
}

Result<BackendConfig> parse_backend(const ObjectOptions& options) {
  if (options.type == kBackendTables[0].type) {
    return parse_as<RngRandomConfig, BackendConfig>("-object", options, kBackendTables[0]);
  }
  return std::unexpected(Error::unsupported(fmt::format("-object {}: unsupported type", options.text)));
}

}  // namespace strato
