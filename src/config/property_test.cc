#include "config/property.h"

#include <gtest/gtest.h>

#include "config/option_tables.h"

namespace strato {
namespace {

enum class Colour : uint8_t { Red = 3, Blue = 7 };
struct Inner {
  uint16_t port = 0;
  bool operator==(const Inner&) const = default;
};
struct Sample {
  std::string name{};
  bool on = false;
  bool strict = false;
  bool bare = false;
  uint8_t small = 0;
  uint64_t bytes = 0;
  std::optional<uint32_t> maybe{};
  Colour colour = Colour::Red;
  Inner inner{};
  bool operator==(const Sample&) const = default;
};

constexpr Choice kColours[] = {{"red", 3}, {"blue", 7}};
constexpr Property kSample[] = {
    text<&Sample::name>("name", "the name", 4),
    boolean<&Sample::on>("on", ""),
    true_false<&Sample::strict>("strict", ""),
    flag<&Sample::bare>("bare", ""),
    integer<&Sample::small>("small", "", 0, 255).also("small_one"),
    size<&Sample::bytes>("bytes", "", {.unit = kMiB, .min = kKiB, .max = kGiB, .multiple_of = kKiB}),
    integer<&Sample::maybe>("maybe", "", 0, 9),
    choice<&Sample::colour>("colour", "", kColours).any_case(),
    integer<&Sample::inner, &Inner::port>("port", "", 1, 65535),
};
constexpr ObjectTable kSampleTable = {.type_key = "name", .properties = kSample};

Sample parsed(std::string_view text) {
  Sample sample;
  const Result<> result = parse_object(text, kSampleTable, sample);
  EXPECT_TRUE(result.has_value()) << text << ": " << result.error().text();
  return sample;
}

std::string failure(std::string_view text) {
  Sample sample;
  const Result<> result = parse_object(text, kSampleTable, sample);
  return result ? "accepted" : result.error().text();
}

TEST(PropertyTest, EachKindReachesItsMember) {
  const Sample expected = {.name = "x",
                           .on = true,
                           .strict = true,
                           .bare = true,
                           .small = 16,
                           .bytes = 3 * kMiB,
                           .maybe = 4,
                           .colour = Colour::Blue,
                           .inner = {.port = 80}};
  EXPECT_EQ(parsed("x,on=yes,strict=true,bare,small=0x10,bytes=3,maybe=4,colour=BLUE,port=80"), expected);
}

TEST(PropertyTest, WhatIsNotNamedKeepsItsValue) {
  Sample sample = {.small = 9};
  ASSERT_TRUE(parse_object("on=on", kSampleTable, sample).has_value());
  EXPECT_EQ(sample.small, 9);
}

TEST(PropertyTest, BooleansOfTheContract) {
  for (const char* yes : {"on", "true", "yes", "unmap"}) EXPECT_TRUE(parsed(std::string("on=") + yes).on) << yes;
  for (const char* no : {"off", "false", "no", "ignore"}) EXPECT_FALSE(parsed(std::string("on=") + no).on) << no;
  EXPECT_EQ(failure("on=1"), "on=1: must be on|off");
  EXPECT_EQ(failure("strict=on"), "strict=on: must be true|false");
}

TEST(PropertyTest, SizesCountTheirSuffix) {
  EXPECT_EQ(parsed("bytes=1k").bytes, kKiB);
  EXPECT_EQ(parsed("bytes=2M").bytes, 2 * kMiB);
  EXPECT_EQ(parsed("bytes=1G").bytes, kGiB);
  EXPECT_EQ(parsed("bytes=1").bytes, kMiB);
}

TEST(PropertyTest, SizesOutsideTheirRangeAreRefusedAlsoWhenTheyOverflow) {
  for (const char* bytes : {"0", "2G", "18446744073709551615", "18446744073709551616K", "99999999999999999999",
                            "17179869184G", "-1", "1.5G", "G", "", "1MB", "0x10M", " 1"}) {
    EXPECT_NE(failure(std::string("bytes=") + bytes).find("must be 1K..1G in steps of 1K"), std::string::npos) << bytes;
  }
}

TEST(PropertyTest, IntegersOutsideTheirRangeAreRefused) {
  for (const char* number : {"256", "-1", "", "0x", "0x100", "1x", "18446744073709551616", "+1"}) {
    EXPECT_EQ(failure(std::string("small=") + number), std::string("small=") + number + ": must be 0..255");
  }
}

TEST(PropertyTest, AliasAndNameAreOneKey) {
  EXPECT_EQ(parsed("small_one=5").small, 5);
  EXPECT_EQ(failure("small=1,small_one=2"), "'small' is given twice");
}

TEST(PropertyTest, FirstWordAndItsKeyAreOneKey) {
  EXPECT_EQ(parsed("name=x").name, "x");
  EXPECT_EQ(failure("x,name=y"), "name=y: 'name' is given twice");
}

TEST(PropertyTest, UnknownKeyListsTheKnownOnes) {
  EXPECT_EQ(failure("nmae=x"),
            "unknown property 'nmae' (known: name, on, strict, bare, small, bytes, maybe, colour, port)");
}

TEST(PropertyTest, AValueThatIsMissingIsNoEmptyValue) {
  EXPECT_EQ(failure("on=on,small"), "small: needs a value: 0..255");
}

TEST(PropertyTest, MandatoryKeyIsNamedWithItsMeaning) {
  constexpr Property kProperties[] = {text<&Sample::name>("name", "the name", 4).mandatory()};
  Sample sample;
  const Result<> result = parse_object(ObjectOptions{}, ObjectTable{.properties = kProperties}, sample);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().text(), "needs name= (the name)");
}

TEST(SizeTextTest, IsTheShortestForm) {
  EXPECT_EQ(size_text(0), "0");
  EXPECT_EQ(size_text(1023), "1023");
  EXPECT_EQ(size_text(4096), "4K");
  EXPECT_EQ(size_text(512 * kGiB), "512G");
  EXPECT_EQ(size_text(kGiB + kMiB), "1025M");
}

// The table repeats the defaults for people: they are those of the struct.
template <class T>
void expect_defaults(const ObjectTable& table, const T& fresh) {
  for (const Property& property : table.properties) {
    if (property.default_text.empty()) continue;
    T object = fresh;
    const Result<PropertyValue> value =
        parse_value(property, KeyValue{std::string(property.name), std::string(property.default_text)});
    ASSERT_TRUE(value.has_value()) << property.name;
    property.store(&object, *value);
    EXPECT_EQ(object, fresh) << property.name << '=' << property.default_text;
  }
}

TEST(OptionTablesTest, DefaultsInTheTablesAreThoseOfTheStructs) {
  expect_defaults(kMachineTable, MachineConfig{});
  expect_defaults(kCpuTable, CpuConfig{});
  expect_defaults(kSmpTable, SmpConfig{});
  expect_defaults(kMemoryTable, MemoryOptions{});
  expect_defaults(kIncomingTable, IncomingConfig{});
  expect_defaults(kActionTable, ActionConfig{});
}

}  // namespace
}  // namespace strato
