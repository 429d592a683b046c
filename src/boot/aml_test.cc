#include "boot/aml.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace strato::boot::aml {
namespace {

Bytes bytes(std::initializer_list<unsigned> values) {
  Bytes out;
  for (const unsigned value : values) out.push_back(static_cast<std::byte>(value));
  return out;
}

TEST(AmlTest, IntegersTakeTheShortestForm) {
  EXPECT_EQ(integer(0).bytes, bytes({0x00}));
  EXPECT_EQ(integer(1).bytes, bytes({0x01}));
  EXPECT_EQ(integer(0xff).bytes, bytes({0x0a, 0xff}));
  EXPECT_EQ(integer(0x100).bytes, bytes({0x0b, 0x00, 0x01}));
  EXPECT_EQ(integer(0x1'0000).bytes, bytes({0x0c, 0, 0, 1, 0}));
  EXPECT_EQ(integer(0x1'0000'0000).bytes, bytes({0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(AmlTest, EisaIdIsPackedAsLettersAndDigits) {
  EXPECT_EQ(eisa_id("PNP0501").bytes, bytes({0x0c, 0x41, 0xd0, 0x05, 0x01}));
}

TEST(AmlTest, PathsOfOneTwoAndMoreSegments) {
  EXPECT_EQ(path("GED").bytes, bytes({'G', 'E', 'D', '_'}));
  EXPECT_EQ(path("\\_SB.X").bytes, bytes({'\\', 0x2e, '_', 'S', 'B', '_', 'X', '_', '_', '_'}));
  EXPECT_EQ(path("^A.B.C").bytes, bytes({'^', 0x2f, 3, 'A', '_', '_', '_', 'B', '_', '_', '_', 'C', '_', '_', '_'}));
  EXPECT_EQ(path("\\").bytes, bytes({'\\', 0}));
}

TEST(AmlTest, PackageLengthCountsItselfAndGrowsWithItsContent) {
  // 1 length byte + 1 size byte + 61 bytes of data are the most that 6 bits say.
  const Bytes small = buffer(Bytes(60)).bytes;
  EXPECT_EQ(small.size(), 1U + 1 + 2 + 60);
  EXPECT_EQ(small[1], std::byte{63});

  const Bytes two = buffer(Bytes(61)).bytes;
  EXPECT_EQ(two.size(), 1U + 2 + 2 + 61);
  EXPECT_EQ(two[1], std::byte{0x40 | (65 & 0xf)});
  EXPECT_EQ(two[2], std::byte{65 >> 4});

  const Bytes three = buffer(Bytes(4096)).bytes;
  EXPECT_EQ(three.size(), 1U + 3 + 3 + 4096);
  EXPECT_EQ(three[1], std::byte{0x80 | (4102 & 0xf)});
  EXPECT_EQ(three[2], std::byte{(4102 >> 4) & 0xff});
  EXPECT_EQ(three[3], std::byte{4102 >> 12});
}

TEST(AmlTest, DeviceInAScope) {
  EXPECT_EQ(scope("\\_SB", {device("A", {name("_UID", integer(7))})}).bytes,
            bytes({0x10, 20,  '\\', '_',  'S', 'B', '_', 0x5b, 0x82, 12, 'A',
                   '_',  '_', '_',  0x08, '_', 'U', 'I', 'D',  0x0a, 7}));
}

TEST(AmlTest, MethodCarriesArgumentCountAndSerialization) {
  EXPECT_EQ(method("M", 2, Serialize::Yes, {return_value(arg(1))}).bytes,
            bytes({0x14, 8, 'M', '_', '_', '_', 0x0a, 0xa4, 0x69}));
}

TEST(AmlTest, FieldUnitsMayBeReserved) {
  const FieldUnit units[] = {{"", 8}, {"ABCD", 100}};
  EXPECT_EQ(field("REG", FieldAccess::Byte, FieldLock::Yes, FieldUpdate::WriteAsZeros, units).bytes,
            bytes({0x5b, 0x81, 14, 'R', 'E', 'G', '_', 0x51, 0x00, 8, 'A', 'B', 'C', 'D', 0x44, 0x06}));
}

TEST(AmlTest, ConditionsAndAlternatives) {
  EXPECT_EQ(if_true(equal(local(0), integer(1)), {notify(path("X"), integer(0x80))}).bytes,
            bytes({0xa0, 11, 0x93, 0x60, 0x01, 0x86, 'X', '_', '_', '_', 0x0a, 0x80}));
  EXPECT_EQ(otherwise({store(bit_and(local(1), integer(4)), local(2))}).bytes,
            bytes({0xa1, 8, 0x70, 0x7b, 0x61, 0x0a, 4, 0x00, 0x62}));
}

TEST(AmlTest, PackageOfMoreThan255ElementsIsAVarPackage) {
  EXPECT_EQ(package({integer(5), integer(0)}).bytes, bytes({0x12, 5, 2, 0x0a, 5, 0}));
  EXPECT_EQ(package(Terms(256, integer(0))).bytes[0], std::byte{0x13});
}

TEST(AmlTest, ResourceTemplateEndsWithItsTag) {
  EXPECT_EQ(resource_template({interrupt(Trigger::Edge, Polarity::ActiveHigh, 4)}).bytes,
            bytes({0x11, 14, 0x0a, 11, 0x89, 6, 0, 0x03, 1, 4, 0, 0, 0, 0x79, 0}));
}

TEST(AmlTest, MemoryAndPortResources) {
  EXPECT_EQ(memory32_fixed(Access::ReadWrite, 0xf010'0000, 0x200).bytes,
            bytes({0x86, 9, 0, 1, 0, 0, 0x10, 0xf0, 0, 2, 0, 0}));
  EXPECT_EQ(io_port(0x3f8, 8).bytes, bytes({0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8}));
  const Bytes qword = qword_memory(Access::ReadWrite, 0x1'0000'0000, 0x200).bytes;
  EXPECT_EQ(qword.size(), 46U);
  EXPECT_EQ(qword[22], std::byte{0xff});  // the last byte of the range, lowest byte
  EXPECT_EQ(qword[23], std::byte{0x01});
}

}  // namespace
}  // namespace strato::boot::aml
