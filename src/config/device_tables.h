// The property tables of devices and of the objects that they refer to.
#pragma once

#include "config/device_config.h"
#include "config/property.h"

namespace strato {

inline constexpr uint64_t kMinRngRate = 64;  // bytes per second
inline constexpr uint64_t kMaxRngRate = 1'000'000'000;
inline constexpr uint64_t kMaxRngPeriodMs = 24 * 3600 * 1000;
inline constexpr uint64_t kMaxRngBytes = kMaxRngRate * (kMaxRngPeriodMs / 1000);

inline constexpr Property kRngRandomProperties[] = {
    text<&RngRandomConfig::id>("id", "name that devices refer to", kMaxIdLength).mandatory(),
    text<&RngRandomConfig::filename>("filename", "where the bytes come from: /dev/urandom", kMaxPathLength).mandatory(),
};
inline constexpr ObjectTable kBackendTables[] = {
    {.type = "rng-random", .help = "random bytes of the host", .properties = kRngRandomProperties},
};

inline constexpr Property kVirtioRngProperties[] = {
    text<&VirtioRngConfig::id>("id", "name of the device", kMaxIdLength).mandatory(),
    text<&VirtioRngConfig::rng>("rng", "id of an -object rng-random", kMaxIdLength).mandatory(),
    integer<&VirtioRngConfig::max_bytes>("max-bytes", "at most so many bytes in a period; needs period=", 1,
                                         kMaxRngBytes),
    integer<&VirtioRngConfig::period_ms>("period", "ms; needs max-bytes=", 1, kMaxRngPeriodMs),
};
inline constexpr ObjectTable kDeviceTables[] = {
    {.type = "virtio-rng-device", .help = "source of entropy", .properties = kVirtioRngProperties},
};

}  // namespace strato
