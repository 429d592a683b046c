// The property tables of -netdev.
#pragma once

#include "config/net_config.h"
#include "config/property.h"

namespace strato {

inline constexpr uint64_t kMaxIfnameLength = 15;
inline constexpr uint64_t kMaxFd = INT32_MAX;
inline constexpr uint64_t kMaxFdListLength = 256;
inline constexpr Choice kNetNoScript[] = {{"no", 0}};
inline constexpr Choice kNetAddressTypes[] = {{"unix", 0}};

inline constexpr Property kNetdevId =
    text<&NetdevConfig::id>("id", "name that a device refers to", kMaxIdLength).mandatory();

inline constexpr Property kTapProperties[] = {
    kNetdevId,
    text<&NetdevConfig::ifname>("ifname", "tap interface, made where it is not there; or fd=, fds=", kMaxIfnameLength),
    integer<&NetdevConfig::fd>("fd", "an open tap queue", 0, kMaxFd),
    text<&NetdevConfig::fd_list>("fds", "open queues of one tap as A:B:...", kMaxFdListLength),
    integer<&NetdevConfig::queues>("queues", "queue pairs, with ifname=; as many as fds", 1, kMaxNetPairs),
    boolean<&NetdevConfig::vhost>("vhost", "frames by the host's kernel; with a warning by us where it cannot")
        .defaults("off"),
    boolean<&NetdevConfig::vhost_force>("vhostforce", "vhost=on, and an error where it cannot").defaults("off"),
    integer<&NetdevConfig::vhost_fd>("vhostfd", "an open /dev/vhost-net; needs vhost=on", 0, kMaxFd),
    text<&NetdevConfig::vhost_fd_list>("vhostfds", "one for each queue pair as A:B:...; needs vhost=on",
                                       kMaxFdListLength),
    boolean<&NetdevConfig::macnat>("macnat", "not part of this version").defaults("off"),
    fixed("script", "for callers of QEMU", kNetNoScript),
    fixed("downscript", "for callers of QEMU", kNetNoScript),
};
inline constexpr Property kStreamProperties[] = {
    kNetdevId,
    fixed("addr.type", "kind of the socket", kNetAddressTypes).mandatory(),
    text<&NetdevConfig::path>("addr.path", "unix socket, of passt or QEMU", kMaxUnixPathLength).mandatory(),
    boolean<&NetdevConfig::server>("server", "listen instead of connecting").defaults("off"),
    integer<&NetdevConfig::reconnect_s>("reconnect", "seconds until a client tries again; 0: never", 0, 3600)
        .defaults("0"),
    integer<&NetdevConfig::reconnect_ms>("reconnect-ms", "the same in ms", 0, 3'600'000).defaults("0"),
};
inline constexpr uint64_t kMaxForwardsLength = 4096;
inline constexpr Property kUserProperties[] = {
    kNetdevId,
    text<&NetdevConfig::net_text>("net", "of the guest: ADDRESS[/BITS]; it is .15 there, the host .2", 18)
        .defaults("10.0.2.0/24"),
    text<&NetdevConfig::dns>("dns", "address at which the guest finds the host's name server", 15),
    text<&NetdevConfig::forward_list>(kRepeatedKey, "[tcp|udp]:[HOST ADDRESS]:PORT-:PORT of the guest; may be repeated",
                                      kMaxForwardsLength),
    boolean<&NetdevConfig::restrict_guest>("restrict", "the guest reaches neither host nor others").defaults("off"),
};
inline constexpr ObjectTable kNetdevTables[] = {
    {.type = "tap", .help = "a tap interface of the host", .properties = kTapProperties},
    {.type = "stream", .help = "frames on a stream socket", .properties = kStreamProperties},
    {.type = "user", .help = "the host's network without privileges, by passt", .properties = kUserProperties},
};

}  // namespace strato
