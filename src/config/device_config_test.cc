#include "config/device_config.h"

#include <gtest/gtest.h>

#include "config/device_tables.h"

namespace strato {
namespace {

Result<DeviceConfig> device(std::string_view text) {
  const Result<ObjectOptions> options = split_object_options(text, "driver");
  if (!options) return std::unexpected(options.error());
  return parse_device(*options);
}

Result<BackendConfig> backend(std::string_view text) {
  const Result<ObjectOptions> options = split_object_options(text, "qom-type");
  if (!options) return std::unexpected(options.error());
  return parse_backend(*options);
}

std::string failure(std::string_view text) {
  const Result<DeviceConfig> parsed = device(text);
  return parsed ? "accepted" : parsed.error().text();
}

TEST(DeviceConfigTest, AnRngWithAndWithoutALimiter) {
  EXPECT_EQ(std::get<VirtioRngConfig>(*device("virtio-rng-device,rng=r,id=d")),
            (VirtioRngConfig{.common = {.id = "d"}, .rng = "r"}));
  EXPECT_EQ(std::get<VirtioRngConfig>(*device("virtio-rng-device,rng=r,id=d,max-bytes=1024,period=1000")),
            (VirtioRngConfig{.common = {.id = "d"}, .rng = "r", .max_bytes = 1024, .period_ms = 1000}));
}

TEST(DeviceConfigTest, MemoryThatComesAndGoes) {
  EXPECT_EQ(std::get<VirtioMemConfig>(*device("virtio-mem-device,id=v,memdev=m")),
            (VirtioMemConfig{.common = {.id = "v"}, .memdev = "m"}));
  EXPECT_EQ(std::get<VirtioMemConfig>(*device("virtio-mem-device,id=v,memdev=m,requested-size=512M,block-size=4M,"
                                              "memaddr=0x140000000,node=0,unplugged-inaccessible=on")),
            (VirtioMemConfig{.common = {.id = "v"},
                             .memdev = "m",
                             .requested_bytes = 536870912,
                             .block_bytes = 4194304,
                             .address = 0x1'4000'0000}));
}

TEST(DeviceConfigTest, ABalloon) {
  EXPECT_EQ(std::get<VirtioBalloonConfig>(*device("virtio-balloon-device,id=b")),
            (VirtioBalloonConfig{.common = {.id = "b"}}));
  EXPECT_EQ(std::get<VirtioBalloonConfig>(*device("virtio-balloon-device,id=b,deflate-on-oom=true,free-page-reporting="
                                                  "on,auto-balloon=on,membuf-percent=80,monitor-interval=300")),
            (VirtioBalloonConfig{.common = {.id = "b"},
                                 .deflate_on_oom = true,
                                 .free_page_reporting = true,
                                 .auto_balloon = true,
                                 .membuf_percent = 80,
                                 .monitor_interval_s = 300}));
}

TEST(DeviceConfigTest, APmemHasAPlaceOfItsOwnOrAGivenOne) {
  EXPECT_EQ(std::get<VirtioPmemConfig>(*device("virtio-pmem-device,id=p,memdev=m")),
            (VirtioPmemConfig{.common = {.id = "p"}, .memdev = "m"}));
  EXPECT_EQ(std::get<VirtioPmemConfig>(*device("virtio-pmem-device,id=p,memdev=m,memaddr=0x200000000")),
            (VirtioPmemConfig{.common = {.id = "p"}, .memdev = "m", .address = uint64_t{8} << 30}));
  EXPECT_NE(failure("virtio-pmem-device,id=p").find("memdev"), std::string::npos);
}

TEST(DeviceConfigTest, AVmgenidHasANumberOfItsOwnOrAGivenOne) {
  EXPECT_EQ(std::get<VmGenerationConfig>(*device("vmgenid,id=g")), (VmGenerationConfig{.id = "g", .guid = "auto"}));
  EXPECT_EQ(failure("vmgenid,id=g,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"), "accepted");
  EXPECT_NE(failure("vmgenid,id=g,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb8").find("must be auto, or look like"),
            std::string::npos);
}

TEST(DeviceConfigTest, AUuidIsReadByteByByte) {
  const std::optional<UuidBytes> uuid = parse_uuid("00112233-4455-6677-8899-AABBccddeeff");
  ASSERT_TRUE(uuid.has_value());
  for (size_t i = 0; i < uuid->size(); ++i) EXPECT_EQ((*uuid)[i], i * 0x11);
  for (const std::string_view wrong :
       {"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeefg",
        "00112233+4455-6677-8899-aabbccddeeff", "0011223-34455-6677-8899-aabbccddeeff",
        "-0112233-4455-6677-8899-aabbccddeeff"}) {
    EXPECT_FALSE(parse_uuid(wrong).has_value()) << wrong;
  }
}

TEST(DeviceConfigTest, MemoryObjects) {
  const Result<BackendConfig> file = backend(
      "memory-backend-file,id=m,size=2G,mem-path=/x,share=off,prealloc=on,prealloc-threads=4,dump=off,host-nodes="
      "0-2:64,policy=interleave,x-huge-pages=off");
  ASSERT_TRUE(file.has_value()) << file.error().text();
  EXPECT_EQ(std::get<MemoryFileConfig>(*file), (MemoryFileConfig{.common = {.id = "m",
                                                                            .size_bytes = 2 * kGiB,
                                                                            .host_nodes = "0-2:64",
                                                                            .policy = MemoryPolicy::Interleave,
                                                                            .dump_guest_core = false,
                                                                            .share = false,
                                                                            .prealloc = true,
                                                                            .prealloc_threads = 4,
                                                                            .huge_pages = false},
                                                                 .path = "/x"}));
  EXPECT_EQ(as_memory(*file)->id, "m");
  EXPECT_EQ(as_memory(*backend("memory-backend-ram,id=r,size=64M"))->size_bytes, 64 * kMiB);
  EXPECT_EQ(as_memory(*backend("memory-backend-memfd,id=r,size=64M"))->share, std::nullopt);
  EXPECT_EQ(as_memory(*backend("iothread,id=t")), nullptr);
}

TEST(DeviceConfigTest, MemoryObjectsThatContradictThemselves) {
  const auto refusal = [](std::string_view text) {
    const Result<BackendConfig> parsed = backend(text);
    return parsed ? std::string("accepted") : parsed.error().text();
  };
  EXPECT_NE(refusal("memory-backend-ram,id=r,size=64M,share=on").find("is a memory-backend-memfd"), std::string::npos);
  EXPECT_NE(refusal("memory-backend-memfd,id=r,size=64M,share=off").find("is a memory-backend-ram"), std::string::npos);
  EXPECT_NE(refusal("memory-backend-ram,id=r,size=64M,policy=bind").find("needs host-nodes="), std::string::npos);
  EXPECT_NE(refusal("memory-backend-ram,id=r,size=64M,host-nodes=1").find("needs policy="), std::string::npos);
  EXPECT_NE(refusal("memory-backend-ram,id=r,size=64M,host-nodes=128,policy=bind").find("host-nodes=128: must be"),
            std::string::npos);
  EXPECT_NE(refusal("memory-backend-file,id=r,size=64M").find("mem-path="), std::string::npos);
}

TEST(DeviceConfigTest, HostNodesAreNumbersAndRanges) {
  EXPECT_EQ((*parse_host_nodes("0")), (std::array<uint64_t, 2>{1, 0}));
  EXPECT_EQ((*parse_host_nodes("1-3:64:127")), (std::array<uint64_t, 2>{0b1110, uint64_t{1} << 63 | 1}));
  for (const std::string_view wrong : {"", "x", "1-", "-1", "3-1", "1:", ":1", "128", "0-128", "1,2", "4294967296"}) {
    EXPECT_FALSE(parse_host_nodes(wrong).has_value()) << wrong;
  }
}

TEST(DeviceConfigTest, EveryVirtioDeviceHasTheSharedProperties) {
  EXPECT_EQ(std::get<VirtioRngConfig>(*device("virtio-rng-device,rng=r,id=d,iothread=t,packed=on")).common,
            (VirtioDeviceConfig{.id = "d", .iothread = "t", .packed = true}));
  for (const ObjectTable& table : kDeviceTables) {
    if (!table.type.starts_with("virtio-")) continue;  // part of another device
    EXPECT_EQ(table.properties[0].name, "id");
    EXPECT_EQ(table.properties[1].name, "iothread");
    EXPECT_EQ(table.properties[2].name, "packed");
  }
}

TEST(DeviceConfigTest, TheQueuesOfADiskMayHaveThreadsOfTheirOwn) {
  const auto threads = [](std::string_view more) {
    return iothreads_of(
        std::get<VirtioBlkConfig>(*device("virtio-blk-device,drive=f,id=d,num-queues=4" + std::string(more))));
  };
  EXPECT_EQ(threads(""), (std::vector<std::string>{""}));
  EXPECT_EQ(threads(",iothread=a"), (std::vector<std::string>{"a"}));
  EXPECT_EQ(threads(",iothreads=a"), (std::vector<std::string>{"a"}));
  EXPECT_EQ(threads(",iothreads=a:bc:d"), (std::vector<std::string>{"a", "bc", "d"}));
}

TEST(DeviceConfigTest, AVirtioSerialDeviceAndItsPorts) {
  EXPECT_EQ(std::get<VirtioSerialConfig>(*device("virtio-serial-device,id=s,max-ports=31")),
            (VirtioSerialConfig{.common = {.id = "s"}, .max_ports = 31}));
  EXPECT_EQ(std::get<VirtConsoleConfig>(*device("virtconsole,chardev=charconsole0,id=virtio-console0,nr=0")).port,
            (SerialPortConfig{.id = "virtio-console0", .chardev = "charconsole0", .nr = 0}));
  EXPECT_EQ(std::get<VirtSerialPortConfig>(*device("virtserialport,chardev=c,id=p,nr=3,name=org.qemu.agent.0")).port,
            (SerialPortConfig{.id = "p", .chardev = "c", .nr = 3, .name = "org.qemu.agent.0"}));
}

TEST(DeviceConfigTest, TheRateOfAnRngHasItsLimits) {
  const auto with = [](std::string_view limiter) {
    return failure("virtio-rng-device,rng=r,id=d," + std::string(limiter));
  };
  EXPECT_EQ(with("max-bytes=64,period=1000"), "accepted");
  EXPECT_EQ(with("max-bytes=1,period=15"), "accepted");
  EXPECT_EQ(with("max-bytes=1000000000,period=1000"), "accepted");
  EXPECT_EQ(with("max-bytes=86400000000000,period=86400000"), "accepted");
  const std::string rate = "must be 64 to 1000000000 bytes per second";
  EXPECT_NE(with("max-bytes=63,period=1000").find(rate), std::string::npos);
  EXPECT_NE(with("max-bytes=1,period=16").find(rate), std::string::npos);
  EXPECT_NE(with("max-bytes=1000001,period=1").find(rate), std::string::npos);
  EXPECT_NE(with("max-bytes=1000000001,period=1000").find(rate), std::string::npos);
}

TEST(DeviceConfigTest, ADiskWithAndWithoutEverything) {
  EXPECT_EQ(std::get<VirtioBlkConfig>(*device("virtio-blk-device,drive=f,id=d")),
            (VirtioBlkConfig{.common = {.id = "d"}, .drive = "f"}));
  EXPECT_EQ(std::get<VirtioBlkConfig>(*device("virtio-blk-device,drive=f,id=d,iothread=t,num-queues=32,queue-size=1024,"
                                              "serial=12345678901234567890,logical_block_size=4096,"
                                              "physical_block_size=8192,write-cache=off")),
            (VirtioBlkConfig{.common = {.id = "d", .iothread = "t"},
                             .drive = "f",
                             .num_queues = 32,
                             .queue_size = 1024,
                             .serial = "12345678901234567890",
                             .logical_block_bytes = 4096,
                             .physical_block_bytes = 8192,
                             .write_cache = false}));
}

TEST(DeviceConfigTest, AVsockDeviceHasAContextIdAndAPath) {
  EXPECT_EQ(std::get<VirtioVsockConfig>(*device("virtio-vsock-device,id=v,guest-cid=3,path=/run/v.sock")),
            (VirtioVsockConfig{.common = {.id = "v"}, .guest_cid = 3, .path = "/run/v.sock"}));
  EXPECT_EQ(std::get<VirtioVsockConfig>(*device("virtio-vsock-device,id=v,guest-cid=4294967294,path=v")).guest_cid,
            4294967294U);
  const std::string fits(96, 'p');
  EXPECT_EQ(failure("virtio-vsock-device,id=v,guest-cid=3,path=" + fits), "accepted");
  EXPECT_NE(failure("virtio-vsock-device,id=v,guest-cid=3,path=" + fits + "p").find("path="), std::string::npos);
}

TEST(DeviceConfigTest, ASharedDirectoryHasATagAndAChardev) {
  EXPECT_EQ(std::get<VhostUserFsConfig>(*device("vhost-user-fs-device,chardev=virtio_fs,tag=kataShared,id=virtio-fs0")),
            (VhostUserFsConfig{.common = {.id = "virtio-fs0"}, .chardev = "virtio_fs", .tag = "kataShared"}));
  const VhostUserFsConfig whole = std::get<VhostUserFsConfig>(
      *device("vhost-user-fs-device,chardev=c,tag=t,id=f,queue-size=1024,num-request-queues=4"));
  EXPECT_EQ(whole.queue_size, 1024U);
  EXPECT_EQ(whole.request_queues, 4U);
  EXPECT_EQ(failure("vhost-user-fs-device,id=f,chardev=c,tag=" + std::string(35, 't')), "accepted");
}

struct BadRow {
  std::string_view text;
  std::string_view message;
};

TEST(DeviceConfigTest, ErrorsNameTheOptionAndWhatIsWrong) {
  constexpr BadRow kRows[] = {
      {"virtio-rng-device,id=d", "-device: 'virtio-rng-device,id=d': needs rng= (id of an -object rng-random)"},
      {"virtio-rng-device,rng=r,id=d,max-bytes=100", "max-bytes= and period= need each other"},
      {"virtio-rng-device,rng=r,id=d,period=100", "max-bytes= and period= need each other"},
      {"virtio-rng-device,rng=r,id=d,max-bytes=0,period=1", "max-bytes=0: must be 1.."},
      {"virtio-rng-device,rng=r,id=d,max-bytes=64,period=0", "period=0: must be 1..86400000"},
      {"virtio-rng-device,rng=r,id=d,max-bytes=99999999999999999999,period=1", "must be 1.."},
      {"virtio-rng-device,rng=r,id=d,max-bytes=64,period=1000,throttle-group=g", "exclude each other"},
      {"virtio-rng-device,rng=r,id=d,bus=pcie.0", "unknown property 'bus'"},
      {"virtio-blk-device,id=d", "needs drive= (id of a -drive)"},
      {"virtio-blk-device,drive=f,id=d,num-queues=33", "num-queues=33: must be 1..32"},
      {"virtio-blk-device,drive=f,id=d,num-queues=0", "num-queues=0: must be 1..32"},
      {"virtio-blk-device,drive=f,id=d,queue-size=2", "queue-size=2: must be 4..1024"},
      {"virtio-blk-device,drive=f,id=d,bootindex=256", "bootindex=256: must be 0..255"},
      {"virtio-blk-device,drive=f,id=d,num-queues=2,iothreads=a:b,iothread=c", "iothread= and iothreads= exclude"},
      {"virtio-blk-device,drive=f,id=d,num-queues=2,iothreads=a:", "iothreads=a:: an empty id"},
      {"virtio-blk-device,drive=f,id=d,num-queues=2,iothreads=a:b:c", "iothreads=a:b:c: 3 threads for num-queues=2"},
      {"virtio-blk-device,drive=f,id=d,queue-size=100", "queue-size=100: must be a power of two"},
      {"virtio-blk-device,drive=f,id=d,serial=123456789012345678901", "serial="},
      {"virtio-blk-device,drive=f,id=d,logical_block_size=1000", "logical_block_size=1000: must be a power of two"},
      {"virtio-blk-device,drive=f,id=d,logical_block_size=4096,physical_block_size=512",
       "physical_block_size=512: less than logical_block_size=4096"},
      {"virtio-blk-device,drive=f,id=d,addr=0x1", "unknown property 'addr'"},
      {"vhost-user-fs-device,id=f,chardev=c", "needs tag= (name by which the guest mounts it"},
      {"vhost-user-fs-device,id=f,tag=t", "needs chardev="},
      {"vhost-user-fs-device,id=f,chardev=c,tag=ttttttttttttttttttttttttttttttttttt3", "tag="},
      {"vhost-user-fs-device,id=f,chardev=c,tag=t,queue-size=100", "queue-size=100: must be a power of two"},
      {"vhost-user-fs-device,id=f,chardev=c,tag=t,queue-size=2048", "queue-size=2048: must be 16..1024"},
      {"vhost-user-fs-device,id=f,chardev=c,tag=t,num-request-queues=0", "num-request-queues=0: must be 1..64"},
      {"virtio-vsock-device,id=v,guest-cid=3", "needs path= (unix socket for host programs"},
      {"virtio-vsock-device,id=v,path=v", "needs guest-cid= (context id of the guest)"},
      {"virtio-vsock-device,id=v,path=,guest-cid=3", "path="},
      {"virtio-vsock-device,id=v,path=v,guest-cid=0", "guest-cid=0: must be 3..4294967294"},
      {"virtio-vsock-device,id=v,path=v,guest-cid=1", "guest-cid=1: must be 3..4294967294"},
      {"virtio-vsock-device,id=v,path=v,guest-cid=2", "guest-cid=2: must be 3..4294967294"},
      {"virtio-vsock-device,id=v,path=v,guest-cid=4294967295", "guest-cid=4294967295: must be 3..4294967294"},
      {"virtio-vsock-device,id=v,path=v,guest-cid=x", "guest-cid=x"},
      {"virtio-mem-device,id=v", "needs memdev= (id of an -object memory-backend-*"},
      {"virtio-mem-device,id=v,memdev=m,block-size=1M", "block-size=1M: must be 2M..1G"},
      {"virtio-mem-device,id=v,memdev=m,block-size=3M", "block-size=3145728: must be a power of two"},
      {"virtio-mem-device,id=v,memdev=m,block-size=2G", "block-size=2G: must be 2M..1G"},
      {"virtio-mem-device,id=v,memdev=m,requested-size=513G", "requested-size=513G: must be"},
      {"virtio-mem-device,id=v,memdev=m,unplugged-inaccessible=off", "unplugged-inaccessible=off: must be on"},
      {"virtio-rng-pci,rng=r,id=d", "-device virtio-rng-pci,rng=r,id=d: unsupported device"},
  };
  for (const BadRow& row : kRows) {
    EXPECT_NE(failure(row.text).find(row.message), std::string::npos) << row.text << "\n  said: " << failure(row.text);
  }
}

TEST(BackendConfigTest, AnIothreadMayPoll) {
  EXPECT_EQ(std::get<IothreadConfig>(*backend("iothread,id=t")), (IothreadConfig{.id = "t"}));
  EXPECT_EQ(std::get<IothreadConfig>(*backend("iothread,id=t,poll-max-ns=32768")),
            (IothreadConfig{.id = "t", .poll_max_ns = 32768}));
  EXPECT_EQ(backend("iothread,id=t,poll-max-ns=1000000001").error().text(),
            "-object: 'iothread,id=t,poll-max-ns=1000000001': poll-max-ns=1000000001: must be 0..1000000000");
}

TEST(BackendConfigTest, AThrottleGroupHasRatesAndWhatMayComeAtOnce) {
  EXPECT_EQ(std::get<ThrottleGroupConfig>(*backend("throttle-group,id=g,x-bps-total=1000,x-bps-total-max=5000,"
                                                   "x-iops-total=10,x-iops-total-max=20")),
            (ThrottleGroupConfig{.id = "g", .rates = {.bytes = {1000, 5000}, .operations = {10, 20}}}));
  EXPECT_EQ(backend("throttle-group,id=g,x-iops-total-max=20").error().text(),
            "-object: 'throttle-group,id=g,x-iops-total-max=20': x-iops-total-max= needs x-iops-total=");
  EXPECT_TRUE(backend("throttle-group,id=g,x-bps-total=1,x-bps-total-max=86400").has_value());
  EXPECT_NE(backend("throttle-group,id=g,x-bps-total=1,x-bps-total-max=172800").error().text().find("in a day"),
            std::string::npos);
}

TEST(BackendConfigTest, ARandomSourceNeedsItsFile) {
  EXPECT_EQ(std::get<RngRandomConfig>(*backend("rng-random,id=r,filename=/dev/urandom")),
            (RngRandomConfig{.id = "r", .filename = "/dev/urandom"}));
  EXPECT_EQ(backend("rng-random,id=r").error().text(),
            "-object: 'rng-random,id=r': needs filename= (where the bytes come from: /dev/urandom)");
  EXPECT_EQ(backend("rng-egd,id=r").error().text(), "-object rng-egd,id=r: unsupported type");
}

}  // namespace
}  // namespace strato
