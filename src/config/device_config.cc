#include "config/device_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>

#include "config/device_tables.h"
#include "config/net_config.h"

namespace strato {

namespace {

Result<> check_rate(const RateConfig& rate, const RateNames& names) {
  if (rate.max != 0 && rate.per_second == 0) {
    return std::unexpected(Error::invalid(fmt::format("{}= needs {}=", names.max, names.per_second)));
  }
  // A bucket holds a day's worth at most.
  if (rate.max / (24 * 3600) > rate.per_second) {
    return std::unexpected(Error::invalid(
        fmt::format("{}={}: more than {}={} gives in a day", names.max, rate.max, names.per_second, rate.per_second)));
  }
  return {};
}

}  // namespace

std::vector<std::string> iothreads_of(const VirtioBlkConfig& blk) {
  if (blk.iothreads.empty()) return {blk.common.iothread};
  std::vector<std::string> ids;
  size_t begin = 0;
  for (size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = blk.iothreads.find(':', begin);
    ids.push_back(blk.iothreads.substr(begin, end - begin));
  }
  return ids;
}

Result<> check_rates(const IoRates& rates, const RateNames& bytes, const RateNames& operations) {
  STRATO_TRY(check_rate(rates.bytes, bytes));
  return check_rate(rates.operations, operations);
}

namespace {

// What the table alone cannot say.
Result<> check(const RngRandomConfig&) {
  return {};
}

Result<> check(const IothreadConfig&) {
  return {};
}

Result<> check_memory(const MemoryBackendConfig& memory) {
  if (memory.host_nodes.empty()) {
    if (memory.policy == MemoryPolicy::Default) return {};
    return std::unexpected(Error::invalid("policy= needs host-nodes="));
  }
  if (memory.policy == MemoryPolicy::Default) return std::unexpected(Error::invalid("host-nodes= needs policy="));
  Result<std::array<uint64_t, 2>> nodes = parse_host_nodes(memory.host_nodes);
  if (nodes) return {};
  return std::unexpected(std::move(nodes).error().context(fmt::format("host-nodes={}", memory.host_nodes)));
}

Result<> check(const MemoryRamConfig& ram) {
  if (ram.common.share.value_or(false)) {
    return std::unexpected(Error::invalid("share=on: memory that others can map is a memory-backend-memfd"));
  }
  return check_memory(ram.common);
}

Result<> check(const MemoryMemfdConfig& memfd) {
  if (!memfd.common.share.value_or(true)) {
    return std::unexpected(Error::invalid("share=off: memory of this process alone is a memory-backend-ram"));
  }
  return check_memory(memfd.common);
}

Result<> check(const MemoryFileConfig& file) {
  return check_memory(file.common);
}

Result<> check(const ThrottleGroupConfig& group) {
  return check_rates(group.rates, {.per_second = "x-bps-total", .max = "x-bps-total-max"},
                     {.per_second = "x-iops-total", .max = "x-iops-total-max"});
}

Result<> check(const VirtioRngConfig& rng) {
  if (!rng.throttle_group.empty() && rng.max_bytes) {
    return std::unexpected(Error::invalid("max-bytes= and throttle-group= exclude each other"));
  }
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

Result<> check(const VirtioSerialConfig&) {
  return {};
}

Result<> check(const VirtConsoleConfig&) {
  return {};
}

Result<> check(const VirtSerialPortConfig& serial) {
  if (serial.port.nr != 0) return {};
  return std::unexpected(Error::invalid("nr=0: number 0 is for a virtconsole; a virtserialport has 1 or more"));
}

Result<> check_power_of_two(std::string_view name, uint64_t value) {
  if (std::has_single_bit(value)) return {};
  return std::unexpected(Error::invalid(fmt::format("{}={}: must be a power of two", name, value)));
}

Result<> check_iothreads(const VirtioBlkConfig& blk) {
  if (blk.iothreads.empty()) return {};
  if (!blk.common.iothread.empty()) {
    return std::unexpected(Error::invalid("iothread= and iothreads= exclude each other"));
  }
  const std::vector<std::string> ids = iothreads_of(blk);
  if (std::ranges::find(ids, "") != ids.end()) {
    return std::unexpected(Error::invalid(fmt::format("iothreads={}: an empty id", blk.iothreads)));
  }
  if (ids.size() > blk.num_queues) {
    return std::unexpected(Error::invalid(
        fmt::format("iothreads={}: {} threads for num-queues={}", blk.iothreads, ids.size(), blk.num_queues)));
  }
  return {};
}

Result<> check(const VirtioBlkConfig& blk) {
  STRATO_TRY(check_iothreads(blk));
  STRATO_TRY(check_power_of_two("queue-size", blk.queue_size));
  STRATO_TRY(check_power_of_two("logical_block_size", blk.logical_block_bytes));
  if (blk.physical_block_bytes == 0) return {};
  STRATO_TRY(check_power_of_two("physical_block_size", blk.physical_block_bytes));
  if (blk.physical_block_bytes < blk.logical_block_bytes) {
    return std::unexpected(Error::invalid(fmt::format("physical_block_size={}: less than logical_block_size={}",
                                                      blk.physical_block_bytes, blk.logical_block_bytes)));
  }
  return {};
}

Result<> check(const VirtioVsockConfig&) {
  return {};
}

Result<> check(const VhostVsockConfig&) {
  return {};
}

Result<> check(const VirtioNetConfig& net) {
  STRATO_TRY(check_power_of_two("queue-size", net.queue_size));
  if (!net.mac.empty() && !parse_mac(net.mac)) {
    return std::unexpected(
        Error::invalid(fmt::format("mac={}: must be the address of one station, such as 52:54:00:12:34:56", net.mac)));
  }
  if (net.common.iothread.empty() || (net.rx_iothread.empty() && net.tx_iothread.empty())) return {};
  return std::unexpected(Error::invalid("iothread= and rx-iothread=, tx-iothread= exclude each other"));
}

Result<> check(const VhostUserFsConfig& fs) {
  return check_power_of_two("queue-size", fs.queue_size);
}

Result<> check(const VirtioPmemConfig&) {
  return {};
}

Result<> check(const VirtioBalloonConfig&) {
  return {};
}

Result<> check(const VirtioMemConfig& memory) {
  if (!memory.block_bytes) return {};
  return check_power_of_two("block-size", *memory.block_bytes);
}

Result<> check(const VmGenerationConfig& generation) {
  if (generation.guid == "auto" || parse_uuid(generation.guid)) return {};
  return std::unexpected(Error::invalid(
      fmt::format("guid={}: must be auto, or look like 12345678-9abc-def0-1234-56789abcdef0", generation.guid)));
}

template <class Any, class Config>
Result<Any> parse_as(const ObjectOptions& options, const ObjectTable& table) {
  Config config;
  STRATO_TRY(parse_object(options, table, config));
  STRATO_TRY(check(config));
  return Any(std::move(config));
}

// nullopt: no table has this type.
template <class Any, size_t kIndex = 0>
std::optional<Result<Any>> parse_any(const ObjectOptions& options, std::span<const ObjectTable> tables) {
  if constexpr (kIndex < std::variant_size_v<Any>) {
    if (options.type != tables[kIndex].type) return parse_any<Any, kIndex + 1>(options, tables);
    return parse_as<Any, std::variant_alternative_t<kIndex, Any>>(options, tables[kIndex]);
  }
  return std::nullopt;
}

template <class Any>
Result<Any> parse_option(std::string_view option, std::string_view what, const ObjectOptions& options,
                         std::span<const ObjectTable> tables) {
  STRATO_ASSERT(tables.size() == std::variant_size_v<Any>);
  std::optional<Result<Any>> parsed = parse_any<Any>(options, tables);
  if (!parsed) {
    return std::unexpected(Error::unsupported(fmt::format("{} {}: unsupported {}", option, options.text, what)));
  }
  if (!*parsed) {
    return std::unexpected(std::move(*parsed).error().context(fmt::format("{}: '{}'", option, options.text)));
  }
  return *std::move(parsed);
}

}  // namespace

std::optional<UuidBytes> parse_uuid(std::string_view text) {
  constexpr size_t kLength = 36;
  if (text.size() != kLength) return std::nullopt;
  UuidBytes bytes{};
  size_t at = 0;
  for (uint8_t& byte : bytes) {
    if (at == 8 || at == 13 || at == 18 || at == 23) {
      if (text[at++] != '-') return std::nullopt;
    }
    const char* digits = text.data() + at;
    if (std::from_chars(digits, digits + 2, byte, 16).ptr != digits + 2) return std::nullopt;
    at += 2;
  }
  return bytes;
}

const MemoryBackendConfig* as_memory(const BackendConfig& backend) {
  if (const auto* ram = std::get_if<MemoryRamConfig>(&backend)) return &ram->common;
  if (const auto* memfd = std::get_if<MemoryMemfdConfig>(&backend)) return &memfd->common;
  if (const auto* file = std::get_if<MemoryFileConfig>(&backend)) return &file->common;
  return nullptr;
}

Result<std::array<uint64_t, 2>> parse_host_nodes(std::string_view text) {
  std::array<uint64_t, 2> nodes{};
  const char* at = text.data();
  const char* end = at + text.size();
  for (;;) {
    uint32_t first = 0;
    std::from_chars_result read = std::from_chars(at, end, first);
    uint32_t last = first;
    if (read.ec == std::errc{} && read.ptr != end && *read.ptr == '-') read = std::from_chars(read.ptr + 1, end, last);
    if (read.ec != std::errc{} || first > last || last >= kMaxHostNodes) break;
    for (uint32_t node = first; node <= last; ++node) nodes[node / 64] |= uint64_t{1} << (node % 64);
    if (read.ptr == end) return nodes;
    if (*read.ptr != ':') break;
    at = read.ptr + 1;
  }
  return std::unexpected(
      Error::invalid(fmt::format("must be numbers below {} and ranges, as in 0-2:4", kMaxHostNodes)));
}

Result<DeviceConfig> parse_device(const ObjectOptions& options) {
  return parse_option<DeviceConfig>("-device", "device", options, kDeviceTables);
}

Result<BackendConfig> parse_backend(const ObjectOptions& options) {
  return parse_option<BackendConfig>("-object", "type", options, kBackendTables);
}

Result<std::vector<BackendConfig>> parse_backends(std::span<const ObjectOptions> objects) {
  std::vector<BackendConfig> backends;
  for (const ObjectOptions& options : objects) {
    backends.push_back({});
    backends.back() = STRATO_TRY(parse_backend(options));
  }
  return backends;
}

}  // namespace strato
