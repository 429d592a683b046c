#include "boot/mp_table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "boot/x86_layout.h"

namespace strato::boot {
namespace {

PlatformTables platform_of(uint32_t cpus) {
  PlatformTables platform;
  for (uint32_t i = 0; i < cpus; ++i) platform.cpus.push_back({.id = i});
  platform.ioapics = {{.id = static_cast<uint8_t>(cpus + 1)}};
  return platform;
}

unsigned byte_at(const Bytes& bytes, size_t offset) {
  return std::to_integer<unsigned>(bytes[offset]);
}
template <class T>
auto field(const Bytes& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value.get();
}

// Entries by type, walked as a kernel does.
std::map<unsigned, std::vector<Bytes>> entries(const MpTable& mp) {
  std::map<unsigned, std::vector<Bytes>> found;
  size_t at = 44;
  for (unsigned i = 0; i < field<le16>(mp.table, 34); ++i) {
    const unsigned type = byte_at(mp.table, at);
    const size_t len = type == 0 ? 20 : 8;
    found[type].emplace_back(mp.table.begin() + static_cast<ptrdiff_t>(at),
                             mp.table.begin() + static_cast<ptrdiff_t>(at + len));
    at += len;
  }
  EXPECT_EQ(at, mp.table.size());
  return found;
}

TEST(MpTableTest, PointerAndHeaderHaveLengthsAndChecksums) {
  const MpTable mp = build_mp_table(platform_of(2));
  ASSERT_EQ(mp.pointer.size(), 16U);
  EXPECT_EQ(std::memcmp(mp.pointer.data(), "_MP_", 4), 0);
  EXPECT_EQ(field<le32>(mp.pointer, 4), 0x9'fc10U);
  EXPECT_EQ(mp.table_address, 0x9'fc10U);
  EXPECT_EQ(checksum(mp.pointer), 0);
  EXPECT_EQ(std::memcmp(mp.table.data(), "PCMP", 4), 0);
  EXPECT_EQ(field<le16>(mp.table, 4), mp.table.size());
  EXPECT_EQ(checksum(mp.table), 0);
  EXPECT_EQ(field<le32>(mp.table, 36), 0xfee0'0000U);
}

TEST(MpTableTest, ProcessorsAreEnabledAndTheFirstIsTheBootProcessor) {
  PlatformTables platform = platform_of(3);
  platform.cpus[2].enabled = false;
  const auto cpus = entries(build_mp_table(platform))[0];
  ASSERT_EQ(cpus.size(), 3U);
  EXPECT_EQ(byte_at(cpus[0], 1), 0U);
  EXPECT_EQ(byte_at(cpus[0], 3), 3U);
  EXPECT_EQ(byte_at(cpus[1], 1), 1U);
  EXPECT_EQ(byte_at(cpus[1], 3), 1U);
  EXPECT_EQ(byte_at(cpus[2], 3), 0U);
}

TEST(MpTableTest, IsaInterruptsReachThePinsOfEachIoApic) {
  PlatformTables platform = platform_of(1);
  platform.ioapics.push_back({.id = 9, .address = 0xfec1'0000, .gsi_base = 24});
  auto found = entries(build_mp_table(platform));
  ASSERT_EQ(found[1].size(), 1U);
  EXPECT_EQ(std::memcmp(found[1][0].data() + 2, "ISA   ", 6), 0);
  ASSERT_EQ(found[2].size(), 2U);
  EXPECT_EQ(field<le32>(found[2][1], 4), 0xfec1'0000U);
  ASSERT_EQ(found[3].size(), 48U);
  EXPECT_EQ(byte_at(found[3][4], 5), 4U);  // bus irq
  EXPECT_EQ(byte_at(found[3][4], 6), 2U);  // IOAPIC id
  EXPECT_EQ(byte_at(found[3][4], 7), 4U);  // pin
  EXPECT_EQ(byte_at(found[3][25], 5), 25U);
  EXPECT_EQ(byte_at(found[3][25], 6), 9U);
  EXPECT_EQ(byte_at(found[3][25], 7), 1U);
}

TEST(MpTableTest, LocalInterruptsAreExtIntAndNmi) {
  const auto local = entries(build_mp_table(platform_of(1)))[4];
  ASSERT_EQ(local.size(), 2U);
  EXPECT_EQ(byte_at(local[0], 1), 3U);
  EXPECT_EQ(byte_at(local[0], 7), 0U);
  EXPECT_EQ(byte_at(local[1], 1), 1U);
  EXPECT_EQ(byte_at(local[1], 6), 0xffU);
  EXPECT_EQ(byte_at(local[1], 7), 1U);
}

TEST(MpTableTest, TableOf254ProcessorsLiesOutsideTheEbda) {
  const MpTable mp = build_mp_table(platform_of(254));
  EXPECT_EQ(mp.table_address, x86::kLargeMpTable);
  EXPECT_EQ(field<le32>(mp.pointer, 4), x86::kLargeMpTable);
  EXPECT_EQ(entries(mp)[0].size(), 254U);
  EXPECT_EQ(checksum(mp.table), 0);
}

TEST(MpTableTest, TheLastTableThatFitsStaysInTheEbda) {
  EXPECT_EQ(build_mp_table(platform_of(37)).table_address, x86::kEbda + 16);
  EXPECT_EQ(build_mp_table(platform_of(38)).table_address, x86::kLargeMpTable);
}

TEST(MpTableTest, ProcessorsWithoutAnEightBitIdAreLeftOut) {
  PlatformTables platform = platform_of(1);
  platform.cpus.push_back({.id = 254});
  platform.cpus.push_back({.id = 255});
  platform.cpus.push_back({.id = 0x1'0001});
  EXPECT_EQ(entries(build_mp_table(platform))[0].size(), 2U);
}

}  // namespace
}  // namespace strato::boot
