#include "config/net_config.h"

#include <gtest/gtest.h>

#include "config/device_config.h"
#include "config/device_tables.h"
#include "config/net_table.h"

namespace strato {
namespace {

Result<NetdevConfig> netdev(std::string_view text) {
  const Result<ObjectOptions> options = split_object_options(text, "type");
  if (!options) return std::unexpected(options.error());
  return parse_netdev(*options);
}

std::string failure(std::string_view text) {
  const Result<NetdevConfig> parsed = netdev(text);
  return parsed ? "accepted" : parsed.error().text();
}

void expect_failure(std::string_view text, std::string_view message) {
  EXPECT_NE(failure(text).find(message), std::string::npos) << text << ": " << failure(text);
}

std::string device_failure(std::string_view text) {
  const Result<ObjectOptions> options = split_object_options(text, "driver");
  const Result<DeviceConfig> parsed = parse_device(*options);
  return parsed ? "accepted" : parsed.error().text();
}

TEST(NetConfigTest, ATapByNameOrByItsDescriptors) {
  const Result<NetdevConfig> by_name = netdev("tap,id=n,ifname=tap0,queues=4,script=no,downscript=no");
  ASSERT_TRUE(by_name.has_value());
  EXPECT_EQ(by_name->ifname, "tap0");
  EXPECT_EQ(by_name->pairs(), 4U);
  EXPECT_EQ(netdev("tap,id=n,fd=7")->fds, (std::vector<int>{7}));
  EXPECT_EQ(netdev("tap,id=n,fds=4:5:6,queues=3")->fds, (std::vector<int>{4, 5, 6}));
  EXPECT_EQ(netdev("tap,id=n,fds=4:5")->pairs(), 2U);
}

TEST(NetConfigTest, FramesOfATapCanBeTheKernels) {
  EXPECT_FALSE(netdev("tap,id=n,ifname=t")->vhost);
  EXPECT_TRUE(netdev("tap,id=n,ifname=t,vhost=on")->vhost);
  const Result<NetdevConfig> forced = netdev("tap,id=n,ifname=t,vhostforce=on");
  ASSERT_TRUE(forced.has_value());
  EXPECT_TRUE(forced->vhost && forced->vhost_force);
  EXPECT_EQ(netdev("tap,id=n,ifname=t,vhost=on,vhostfd=9")->vhost_fds, (std::vector<int>{9}));
  const Result<NetdevConfig> handed = netdev("tap,id=n,fds=4:5,vhost=on,vhostfds=6:7");
  ASSERT_TRUE(handed.has_value());
  EXPECT_EQ(handed->vhost_fds, (std::vector<int>{6, 7}));
  EXPECT_EQ(handed->descriptors(), (std::vector<int>{4, 5, 6, 7}));
}

TEST(NetConfigTest, AUserNetworkHasQemusPlacesAndPortsOfTheHost) {
  const Result<NetdevConfig> plain = netdev("user,id=n");
  ASSERT_TRUE(plain.has_value());
  EXPECT_EQ(ipv4_text(plain->network.guest()), "10.0.2.15");
  EXPECT_EQ(ipv4_text(plain->network.gateway()), "10.0.2.2");
  EXPECT_EQ(ipv4_text(plain->network.mask()), "255.255.255.0");
  const Result<NetdevConfig> full = netdev(
      "user,id=n,net=172.16.64.0/18,dns=172.16.64.3,hostfwd=tcp:127.0.0.1:8022-:22,hostfwd=udp::53-172.16.64.15:5353,"
      "hostfwd=::1-:65535");
  ASSERT_TRUE(full.has_value()) << full.error().text();
  EXPECT_EQ(ipv4_text(full->network.guest()), "172.16.64.15");
  EXPECT_EQ(ipv4_text(full->network.mask()), "255.255.192.0");
  EXPECT_EQ(full->dns, "172.16.64.3");
  EXPECT_EQ(full->forwards,
            (std::vector<PortForward>{{.host_address = "127.0.0.1", .host_port = 8022, .guest_port = 22},
                                      {.udp = true, .host_port = 53, .guest_port = 5353},
                                      {.host_port = 1, .guest_port = 65535}}));
  EXPECT_TRUE(netdev("user,id=n,restrict=on")->restrict_guest);
}

TEST(NetConfigTest, AUserNetworkThatCannotBeIsRefused) {
  for (const std::string_view wrong : {"10.0.2", "10.0.2.0.1", "10.0.256.0", "10.0.2.x", "", "10.0.2.0/33",
                                       "10.0.2.0/28", "10.0.2.0/7", "10.0.2.0/", "10.0.2.1/24", "10.0.2.0/24x"}) {
    expect_failure("user,id=n,net=" + std::string(wrong), "net=");
  }
  for (const std::string_view wrong :
       {"x", "tcp:8022-:22", "tcp::-:22", "tcp::8022-:", "tcp::0-:22", "tcp::65536-:22", "tcp::8022:22", "sctp::1-:1",
        "tcp:localhost:1-:1", "tcp::1-10.0.2.16:1", "tcp::1-:1;;tcp::2-:2", "tcp::1-:1-"}) {
    expect_failure("user,id=n,hostfwd=" + std::string(wrong), "hostfwd=");
  }
  expect_failure("user,id=n,dns=fe80::1", "dns=fe80::1: must be an IPv4 address");
  expect_failure("user,id=n,restrict=on,hostfwd=tcp::1-:1", "restrict=on and hostfwd= exclude each other");
  expect_failure("user,id=n,net=10.0.2.0,net=10.0.3.0", "'net' is given twice");
}

TEST(NetConfigTest, AStreamIsAUnixSocket) {
  const Result<NetdevConfig> client = netdev("stream,id=n,addr.type=unix,addr.path=/run/passt,reconnect=2");
  ASSERT_TRUE(client.has_value());
  EXPECT_EQ(client->kind, NetdevKind::Stream);
  EXPECT_EQ(client->path, "/run/passt");
  EXPECT_EQ(client->reconnect_s, 2U);
  EXPECT_TRUE(netdev("stream,id=n,addr.type=unix,addr.path=/run/s,server=on")->server);
}

TEST(NetConfigTest, WhatDoesNotFitTogetherIsRefused) {
  expect_failure("tap,id=n", "needs ifname=, fd= or fds=");
  expect_failure("tap,id=n,ifname=t,fd=3", "ifname= and fd=, fds= exclude each other");
  expect_failure("tap,id=n,fd=3,fds=4:5", "fd= and fds= exclude each other");
  expect_failure("tap,id=n,fds=4:5,queues=3", "queues=3: there are 2 fds");
  expect_failure("tap,id=n,fds=4:4", "4 is there twice");
  for (const std::string_view wrong : {"4:", ":4", "4::5", "x", "-1", "4:5x", "99999999999"}) {
    expect_failure("tap,id=n,fds=" + std::string(wrong), "must be numbers");
  }
  expect_failure("tap,id=n,fds=1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17", "at most 16");
  expect_failure("tap,id=n,ifname=t,queues=17", "1..16");
  expect_failure("tap,id=n,ifname=sixteen-bytes-00", "1 to 15 bytes");
  expect_failure("tap,id=n,ifname=t,vhostfd=9", "need vhost=on");
  expect_failure("tap,id=n,ifname=t,vhostfds=9:10", "need vhost=on");
  expect_failure("tap,id=n,ifname=t,vhost=on,vhostfds=9:10", "vhostfds=: 2 of them for 1 queue pairs");
  expect_failure("tap,id=n,fds=4:5,vhost=on,vhostfd=9", "vhostfds=: 1 of them for 2 queue pairs");
  expect_failure("tap,id=n,fd=4,vhost=on,vhostfd=4", "fd 4: tap and vhost cannot be the same");
  expect_failure("tap,id=n,ifname=t,vhost=on,vhostfd=9,vhostfds=9", "vhostfd= and vhostfds= exclude each other");
  expect_failure("tap,id=n,ifname=t,vhost=on,vhostfds=9:x", "vhostfds=9:x: must be numbers");
  expect_failure("tap,id=n,ifname=t,vhost=on,vhostfd=-1", "vhostfd=-1");
  expect_failure("tap,id=n,ifname=t,macnat=on", "not part of this version");
  expect_failure("tap,id=n,ifname=t,script=/bin/sh", "script=/bin/sh: must be no");
  expect_failure("stream,id=n,addr.path=/s", "needs addr.type=");
  expect_failure("stream,id=n,addr.type=inet,addr.path=/s", "must be unix");
  expect_failure("stream,id=n,addr.type=unix,addr.path=/s,server=on,reconnect=1", "for clients");
  expect_failure("stream,id=n,addr.type=unix,addr.path=/s,reconnect=1,reconnect-ms=1", "exclude each other");
  expect_failure("vhost-user,id=n,chardev=c", "unsupported backend");
}

TEST(NetConfigTest, ADescriptorHasOneUser) {
  const std::vector<ObjectOptions> both = {*split_object_options("tap,id=a,fds=3:4", "type"),
                                           *split_object_options("tap,id=b,fd=4", "type")};
  const Result<std::vector<NetdevConfig>> parsed = parse_netdevs(both);
  ASSERT_FALSE(parsed.has_value());
  EXPECT_NE(parsed.error().text().find("fd 4: netdev 'a' has it already"), std::string::npos);
}

TEST(NetConfigTest, AMacAddressIsThatOfOneStation) {
  EXPECT_EQ(parse_mac("52:54:00:12:aB:ff"), (MacBytes{0x52, 0x54, 0, 0x12, 0xab, 0xff}));
  for (const std::string_view wrong :
       {"", "52:54:00:12:34", "52:54:00:12:34:5", "52-54-00-12-34-56", "52:54:00:12:34:567", "52:54:00:12:34:5g",
        "+1:54:00:12:34:56", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"}) {
    EXPECT_EQ(parse_mac(wrong), std::nullopt) << wrong;
  }
  EXPECT_EQ(mac_text({0x52, 0x54, 0, 0x12, 0x34, 0x56}), "52:54:00:12:34:56");
}

TEST(NetConfigTest, ANetworkDeviceWithAndWithoutEverything) {
  EXPECT_EQ(device_failure("virtio-net-device,netdev=n,id=d"), "accepted");
  EXPECT_EQ(device_failure("virtio-net-device,netdev=n,id=d,mac=02:00:ca:fe:00:01,mq=on,queue-size=1024,host_mtu=9000,"
                           "rx-iothread=a,tx-iothread=b,rx-throttle-group=g,tx-throttle-group=h"),
            "accepted");
  const auto refused = [](std::string_view more, std::string_view message) {
    const std::string text = device_failure("virtio-net-device,netdev=n,id=d," + std::string(more));
    EXPECT_NE(text.find(message), std::string::npos) << more << ": " << text;
  };
  refused("mac=01:00:00:00:00:01", "must be the address of one station");
  refused("queue-size=100", "must be a power of two");
  refused("queue-size=8192", "must be 16..4096");
  refused("host_mtu=67", "must be 68..65535");
  refused("iothread=a,rx-iothread=b", "exclude each other");
}

}  // namespace
}  // namespace strato
