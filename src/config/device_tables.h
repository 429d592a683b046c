// The property tables of devices and of the objects that they refer to.
#pragma once

#include <algorithm>
#include <array>

#include "config/device_config.h"
#include "config/property.h"
#include "config/vm_config.h"

namespace strato {

inline constexpr uint64_t kMinRngRate = 64;  // bytes per second
inline constexpr uint64_t kMaxRngRate = 1'000'000'000;
inline constexpr uint64_t kMaxRngPeriodMs = 24 * 3600 * 1000;
inline constexpr uint64_t kMaxRngBytes = kMaxRngRate * (kMaxRngPeriodMs / 1000);

inline constexpr Property kRngRandomProperties[] = {
    text<&RngRandomConfig::id>("id", "name that devices refer to", kMaxIdLength).mandatory(),
    text<&RngRandomConfig::filename>("filename", "where the bytes come from: /dev/urandom", kMaxPathLength).mandatory(),
};

inline constexpr size_t kMaxIothreads = 8;
inline constexpr uint64_t kMaxPollNs = 1'000'000'000;
inline constexpr Property kIothreadProperties[] = {
    text<&IothreadConfig::id>("id", "name that devices refer to", kMaxIdLength).mandatory(),
    integer<&IothreadConfig::poll_max_ns>("poll-max-ns", "looks for work so long before it sleeps, if that pays", 0,
                                          kMaxPollNs)
        .defaults("0"),
};

inline constexpr Property kThrottleGroupProperties[] = {
    text<&ThrottleGroupConfig::id>("id", "name that devices refer to", kMaxIdLength).mandatory(),
    integer<&ThrottleGroupConfig::rates, &IoRates::bytes, &RateConfig::per_second>(
        "x-bps-total", "bytes per second; 0: no limit", 0, kMaxRate)
        .defaults("0"),
    integer<&ThrottleGroupConfig::rates, &IoRates::bytes, &RateConfig::max>("x-bps-total-max",
                                                                            "bytes at once; 0: of 100 ms", 0, kMaxRate)
        .defaults("0"),
    integer<&ThrottleGroupConfig::rates, &IoRates::operations, &RateConfig::per_second>(
        "x-iops-total", "operations per second; 0: no limit", 0, kMaxRate)
        .defaults("0"),
    integer<&ThrottleGroupConfig::rates, &IoRates::operations, &RateConfig::max>(
        "x-iops-total-max", "operations at once; 0: of 100 ms", 0, kMaxRate)
        .defaults("0"),
};

inline constexpr Choice kMemoryPolicies[] = {{"default", static_cast<uint8_t>(MemoryPolicy::Default)},
                                             {"preferred", static_cast<uint8_t>(MemoryPolicy::Preferred)},
                                             {"bind", static_cast<uint8_t>(MemoryPolicy::Bind)},
                                             {"interleave", static_cast<uint8_t>(MemoryPolicy::Interleave)}};
inline constexpr uint64_t kMaxPreallocThreads = 256;
// Those of every memory object, then its own. `kCommon` is the member that is a MemoryBackendConfig.
template <auto kCommon, class... Own>
constexpr auto memory_properties(const Own&... own) {
  using M = MemoryBackendConfig;
  return std::array<Property, 9 + sizeof...(Own)>{
      text<kCommon, &M::id>("id", "name that -machine memory-backend= or memdev= refers to", kMaxIdLength).mandatory(),
      size<kCommon, &M::size_bytes>("size", "as -m says; of a device, its own",
                                    {.unit = kMiB, .min = kMinMemoryBytes, .max = kMaxMemoryBytes, .multiple_of = 4096})
          .mandatory(),
      own...,
      text<kCommon, &M::host_nodes>("host-nodes", "memory nodes of the host: 0-2:4; needs policy=", 255),
      choice<kCommon, &M::policy>("policy", "how the nodes are used", kMemoryPolicies).defaults("default"),
      boolean<kCommon, &M::dump_guest_core>("dump-guest-core", "core dumps contain it").also("dump").defaults("on"),
      boolean<kCommon, &M::share>("share", "others can map it; memfd, file: on, ram: off"),
      boolean<kCommon, &M::prealloc>("mem-prealloc", "all of it is there from the start")
          .also("prealloc")
          .defaults("off"),
      integer<kCommon, &M::prealloc_threads>("prealloc-threads", "that make it be there; one for each vCPU without it",
                                             1, kMaxPreallocThreads),
      boolean<kCommon, &M::huge_pages>("x-huge-pages", "ask for transparent huge pages").defaults("on"),
  };
}
inline constexpr auto kMemoryRamProperties = memory_properties<&MemoryRamConfig::common>();
inline constexpr auto kMemoryMemfdProperties = memory_properties<&MemoryMemfdConfig::common>();
inline constexpr auto kMemoryFileProperties = memory_properties<&MemoryFileConfig::common>(
    text<&MemoryFileConfig::path>("mem-path", "a file, or a directory for one (hugetlbfs: huge pages)", kMaxPathLength)
        .mandatory(),
    boolean<&MemoryFileConfig::read_only>("readonly", "nothing is written to the file; for virtio-pmem")
        .defaults("off"));

inline constexpr ObjectTable kBackendTables[] = {
    {.type = RngRandomConfig::kType, .help = "random bytes of the host", .properties = kRngRandomProperties},
    {.type = IothreadConfig::kType, .help = "a thread for devices; at most 8", .properties = kIothreadProperties},
    {.type = ThrottleGroupConfig::kType, .help = "limits that devices share", .properties = kThrottleGroupProperties},
    {.type = MemoryRamConfig::kType, .help = "guest RAM of this process", .properties = kMemoryRamProperties},
    {.type = MemoryMemfdConfig::kType, .help = "guest RAM that others can map", .properties = kMemoryMemfdProperties},
    {.type = MemoryFileConfig::kType, .help = "guest RAM in a file", .properties = kMemoryFileProperties},
};

// Those of every virtio device, then its own. `kCommon` is the member that is a VirtioDeviceConfig.
template <auto kCommon, size_t kOwn>
constexpr auto virtio_properties(const Property (&own)[kOwn]) {
  constexpr Property kShared[] = {
      text<kCommon, &VirtioDeviceConfig::id>("id", "name of the device", kMaxIdLength).mandatory(),
      text<kCommon, &VirtioDeviceConfig::iothread>("iothread", "id of an -object iothread", kMaxIdLength),
      boolean<kCommon, &VirtioDeviceConfig::packed>("packed", "offer packed rings").defaults("off"),
  };
  std::array<Property, std::size(kShared) + kOwn> all{};
  std::ranges::copy(own, std::ranges::copy(kShared, all.begin()).out);
  return all;
}

inline constexpr auto kVirtioRngProperties = virtio_properties<&VirtioRngConfig::common>({
    text<&VirtioRngConfig::rng>("rng", "id of an -object rng-random", kMaxIdLength).mandatory(),
    integer<&VirtioRngConfig::max_bytes>("max-bytes", "at most so many bytes in a period; needs period=", 1,
                                         kMaxRngBytes),
    integer<&VirtioRngConfig::period_ms>("period", "ms; needs max-bytes=", 1, kMaxRngPeriodMs),
    text<&VirtioRngConfig::throttle_group>("throttle-group", "id of an -object throttle-group", kMaxIdLength),
});
inline constexpr uint32_t kMaxSerialPorts = 31;
inline constexpr uint64_t kMaxPortNameLength = 255;
inline constexpr auto kVirtioSerialProperties = virtio_properties<&VirtioSerialConfig::common>({
    integer<&VirtioSerialConfig::max_ports>("max-ports", "ports at most; as many as follow without it", 1,
                                            kMaxSerialPorts),
});
template <auto kPort>
inline constexpr Property kPortId =
    text<kPort, &SerialPortConfig::id>("id", "name of the port", kMaxIdLength).mandatory();
template <auto kPort>
inline constexpr Property kPortChardev =
    text<kPort, &SerialPortConfig::chardev>("chardev", "id of a -chardev", kMaxIdLength).mandatory();
inline constexpr Property kVirtConsoleProperties[] = {
    kPortId<&VirtConsoleConfig::port>,
    kPortChardev<&VirtConsoleConfig::port>,
    integer<&VirtConsoleConfig::port, &SerialPortConfig::nr>("nr", "number; the lowest free one without it", 0,
                                                             kMaxSerialPorts - 1),
};
inline constexpr Property kVirtSerialPortProperties[] = {
    kPortId<&VirtSerialPortConfig::port>,
    kPortChardev<&VirtSerialPortConfig::port>,
    integer<&VirtSerialPortConfig::port, &SerialPortConfig::nr>(
        "nr", "number, from 1 on; the lowest free one without it", 0, kMaxSerialPorts - 1),
    text<&VirtSerialPortConfig::port, &SerialPortConfig::name>("name", "that the guest sees: /dev/virtio-ports/NAME",
                                                               kMaxPortNameLength),
};

inline constexpr uint64_t kMaxBlockBytes = 4096;  // what Linux takes
inline constexpr auto kVirtioBlkProperties = virtio_properties<&VirtioBlkConfig::common>({
    text<&VirtioBlkConfig::drive>("drive", "id of a -drive", kMaxIdLength).mandatory(),
    integer<&VirtioBlkConfig::num_queues>("num-queues", "request queues", 1, 32).defaults("1"),
    integer<&VirtioBlkConfig::queue_size>("queue-size", "elements of a queue, a power of two", 4, 1024).defaults("256"),
    text<&VirtioBlkConfig::serial>("serial", "serial number that the guest reads", 20),
    integer<&VirtioBlkConfig::logical_block_bytes>("logical_block_size", "bytes, a power of two", 512, kMaxBlockBytes)
        .defaults("512"),
    integer<&VirtioBlkConfig::physical_block_bytes>("physical_block_size", "bytes, a power of two; else the image's",
                                                    512, kMaxBlockBytes * 512),
    boolean<&VirtioBlkConfig::write_cache>("write-cache", "off: each write is durable before its answer")
        .defaults("on"),
    text<&VirtioBlkConfig::iothreads>("iothreads", "ids of -object iothread as A:B:...: they serve the queues in turn",
                                      (kMaxIdLength + 1) * kMaxIothreads),
    integer<&VirtioBlkConfig::bootindex>("bootindex", "place in a firmware's boot order, one per device; here unused",
                                         0, UINT8_MAX),
});

// Not the hypervisor's (0), the loopback's (1), the host's (2) and anybody's (2^32-1).
inline constexpr uint64_t kMinGuestCid = 3;
inline constexpr uint64_t kMaxGuestCid = 0xffff'fffe;
inline constexpr uint64_t kMaxVsockPathLength = kMaxUnixPathLength - 11;  // "_4294967295" follows
inline constexpr auto kVirtioVsockProperties = virtio_properties<&VirtioVsockConfig::common>({
    integer<&VirtioVsockConfig::guest_cid>("guest-cid", "context id of the guest", kMinGuestCid, kMaxGuestCid)
        .mandatory(),
    text<&VirtioVsockConfig::path>("path", "unix socket for host programs; those of the guest reach PATH_PORT",
                                   kMaxVsockPathLength)
        .mandatory(),
});

inline constexpr auto kVhostVsockProperties = virtio_properties<&VhostVsockConfig::common>({
    integer<&VhostVsockConfig::guest_cid>("guest-cid", "context id of the guest, unique on the host", kMinGuestCid,
                                          kMaxGuestCid)
        .mandatory(),
    integer<&VhostVsockConfig::vhost_fd>("vhostfd", "an open /dev/vhost-vsock", 0, INT32_MAX),
});

inline constexpr uint64_t kMacLength = 17;
inline constexpr uint64_t kMinMtu = 68;  // of IPv4, and of virtio 1.2 §5.1.4.1
inline constexpr auto kVirtioNetProperties = virtio_properties<&VirtioNetConfig::common>({
    text<&VirtioNetConfig::netdev>("netdev", "id of a -netdev", kMaxIdLength).mandatory(),
    text<&VirtioNetConfig::mac>("mac", "address; without it 52:54:00:12:34:56, the next device 57 and so on",
                                kMacLength),
    text<&VirtioNetConfig::rx_iothread>("rx-iothread", "instead of iothread=, for frames to the guest", kMaxIdLength),
    text<&VirtioNetConfig::tx_iothread>("tx-iothread", "for frames of the guest", kMaxIdLength),
    boolean<&VirtioNetConfig::mq>("mq", "as many queue pairs as the netdev has").defaults("off"),
    integer<&VirtioNetConfig::queue_size>("queue-size", "elements of a queue, a power of two", 16, 4096)
        .defaults("256"),
    integer<&VirtioNetConfig::host_mtu>("host_mtu", "MTU that the guest is told", kMinMtu, UINT16_MAX).also("mtu"),
    text<&VirtioNetConfig::rx_throttle_group>("rx-throttle-group",
                                              "id of an -object throttle-group, for frames to "
                                              "the guest",
                                              kMaxIdLength),
    text<&VirtioNetConfig::tx_throttle_group>("tx-throttle-group", "the same, for frames of the guest", kMaxIdLength),
});

inline constexpr uint64_t kMaxFsTagLength = 35;
inline constexpr auto kVhostUserFsProperties = virtio_properties<&VhostUserFsConfig::common>({
    text<&VhostUserFsConfig::chardev>("chardev", "id of a -chardev socket, where virtiofsd listens", kMaxIdLength)
        .mandatory(),
    text<&VhostUserFsConfig::tag>("tag", "name by which the guest mounts it", kMaxFsTagLength).mandatory(),
    integer<&VhostUserFsConfig::queue_size>("queue-size", "elements of a queue, a power of two", 16, 1024)
        .defaults("128"),
    integer<&VhostUserFsConfig::request_queues>("num-request-queues", "queues for requests", 1, 64).defaults("1"),
});

inline constexpr auto kVirtioBalloonProperties = virtio_properties<&VirtioBalloonConfig::common>({
    boolean<&VirtioBalloonConfig::deflate_on_oom>("deflate-on-oom", "a guest that runs out of memory takes some back")
        .defaults("off"),
    boolean<&VirtioBalloonConfig::free_page_reporting>("free-page-reporting",
                                                       "the guest gives free memory back by itself")
        .defaults("off"),
    boolean<&VirtioBalloonConfig::auto_balloon>("auto-balloon", "the size follows what the guest needs")
        .defaults("off"),
    integer<&VirtioBalloonConfig::membuf_percent>(
        "membuf-percent", "auto-balloon: stays with the guest, of what it does not need", 20, 80)
        .defaults("50"),
    integer<&VirtioBalloonConfig::monitor_interval_s>("monitor-interval", "auto-balloon: seconds", 5, 300)
        .defaults("10"),
});

inline constexpr auto kVirtioPmemProperties = virtio_properties<&VirtioPmemConfig::common>({
    text<&VirtioPmemConfig::memdev>("memdev", "id of an -object memory-backend-file", kMaxIdLength).mandatory(),
    integer<&VirtioPmemConfig::address>("memaddr", "where the guest sees it, a multiple of 2 MiB; chosen without it", 0,
                                        UINT64_MAX),
});

inline constexpr uint64_t kLeastMemoryBlockBytes = 2 * kMiB;
inline constexpr uint64_t kMostMemoryBlockBytes = kGiB;
inline constexpr Choice kOnlyOn[] = {{"on", 1}};
inline constexpr auto kVirtioMemProperties = virtio_properties<&VirtioMemConfig::common>({
    text<&VirtioMemConfig::memdev>("memdev", "id of an -object memory-backend-*: as much as there can be", kMaxIdLength)
        .mandatory(),
    size<&VirtioMemConfig::requested_bytes>("requested-size", "bytes that the guest shall have of it at start",
                                            {.unit = 1, .min = 0, .max = kMaxMemoryBytes, .multiple_of = 1})
        .defaults("0"),
    size<&VirtioMemConfig::block_bytes>(
        "block-size", "bytes that come and go at once, a power of two; 2M or a page of the object without it",
        {.unit = 1, .min = kLeastMemoryBlockBytes, .max = kMostMemoryBlockBytes, .multiple_of = 1}),
    integer<&VirtioMemConfig::address>("memaddr", "address in the guest; above its RAM without it", 0, UINT64_MAX),
    Property{.name = "node", .help = "of no effect", .kind = PropertyKind::Integer, .max = 127},
    fixed("unplugged-inaccessible", "the guest does not look at what it has not", kOnlyOn),
});

inline constexpr uint64_t kUuidLength = 36;
inline constexpr Property kVmGenerationProperties[] = {
    text<&VmGenerationConfig::id>("id", "name of the device", kMaxIdLength).mandatory(),
    text<&VmGenerationConfig::guid>("guid", "auto: another number for each restore; or a UUID", kUuidLength)
        .defaults("auto"),
};

inline constexpr ObjectTable kDeviceTables[] = {
    {.type = "virtio-rng-device", .help = "source of entropy", .properties = kVirtioRngProperties},
    {.type = "virtio-serial-device", .help = "consoles and serial ports", .properties = kVirtioSerialProperties},
    {.type = "virtconsole", .help = "a console on the virtio-serial-device", .properties = kVirtConsoleProperties},
    {.type = "virtserialport", .help = "a port on the virtio-serial-device", .properties = kVirtSerialPortProperties},
    {.type = "virtio-blk-device", .help = "disk", .properties = kVirtioBlkProperties},
    {.type = "virtio-vsock-device", .help = "sockets to and from the host", .properties = kVirtioVsockProperties},
    {.type = "vhost-vsock-device", .help = "the same by the host's kernel", .properties = kVhostVsockProperties},
    {.type = "virtio-net-device", .help = "network interface", .properties = kVirtioNetProperties},
    {.type = VhostUserFsConfig::kType, .help = "directory of the host", .properties = kVhostUserFsProperties},
    {.type = "virtio-balloon-device", .help = "takes and gives memory", .properties = kVirtioBalloonProperties},
    {.type = "virtio-pmem-device", .help = "a file as memory", .properties = kVirtioPmemProperties},
    {.type = VirtioMemConfig::kType, .help = "memory that comes and goes", .properties = kVirtioMemProperties},
    {.type = "vmgenid", .help = "tells a guest that it is a copy", .properties = kVmGenerationProperties},
};

}  // namespace strato
