#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/endian.h"
#include "state/crc32c.h"
#include "state/format.h"
#include "state/register.h"
#include "testing/state_checks.h"

namespace strato {
namespace {

struct Inner {
  uint32_t a = 7;
  std::string text;
  bool operator==(const Inner&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "a", &Inner::a}, Field{3, "text", &Inner::text}); }
};

struct Everything {
  static constexpr std::string_view kKind = "everything";
  uint8_t u8 = 1;
  uint16_t u16 = 2;
  uint32_t u32 = 3;
  uint64_t u64 = 4;
  int8_t i8 = -1;
  int16_t i16 = -2;
  int32_t i32 = -3;
  int64_t i64 = -4;
  bool flag = true;
  std::array<uint8_t, 6> mac{};
  std::vector<std::byte> xsave;
  std::string name = "default";
  Inner inner;
  std::vector<uint32_t> numbers;
  std::vector<Inner> inners;
  std::array<uint16_t, 3> triple{};
  std::optional<uint64_t> maybe;
  std::optional<Inner> maybe_inner;
  std::vector<state::Register> registers;
  std::vector<bool> flags;
  std::vector<std::vector<uint16_t>> table;
  bool operator==(const Everything&) const = default;
  static constexpr auto fields() {
    return std::tuple(
        Field{1, "u8", &Everything::u8}, Field{2, "u16", &Everything::u16}, Field{3, "u32", &Everything::u32},
        Field{4, "u64", &Everything::u64}, Field{5, "i8", &Everything::i8}, Field{6, "i16", &Everything::i16},
        Field{7, "i32", &Everything::i32}, Field{8, "i64", &Everything::i64}, Field{9, "flag", &Everything::flag},
        Field{10, "mac", &Everything::mac}, Field{11, "xsave", &Everything::xsave},
        Field{12, "name", &Everything::name}, Field{13, "inner", &Everything::inner},
        Field{14, "numbers", &Everything::numbers}, Field{15, "inners", &Everything::inners},
        Field{16, "triple", &Everything::triple}, Field{17, "maybe", &Everything::maybe},
        Field{18, "maybe_inner", &Everything::maybe_inner}, Field{19, "registers", &Everything::registers},
        Field{20, "flags", &Everything::flags}, Field{21, "table", &Everything::table});
  }
};

Everything filled() {
  Everything value;
  value.u8 = 0xff;
  value.u16 = 0x1234;
  value.u32 = 0x12345678;
  value.u64 = 0x123456789abcdef0;
  value.i8 = -128;
  value.i16 = -32768;
  value.i32 = INT32_MIN;
  value.i64 = INT64_MIN;
  value.flag = false;
  value.mac = {1, 2, 3, 4, 5, 6};
  value.xsave = std::vector<std::byte>(300, std::byte{0x5a});
  value.name = "";
  value.inner = {.a = 8, .text = "in"};
  value.numbers = {1, 2, 0xffffffff};
  value.inners = {Inner{}, Inner{.a = 9, .text = "x"}};
  value.triple = {1, 0, 3};
  value.maybe = 0;
  value.maybe_inner = Inner{.a = 7, .text = "y"};
  value.registers = {{.id = 0x10, .bytes = {std::byte{1}}}};
  value.flags = {true, false};
  value.table = {{1, 2}, {}};
  return value;
}

// One struct at two ages.
struct Small {
  static constexpr std::string_view kKind = "timer";
  uint32_t ticks = 0;
  bool operator==(const Small&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "ticks", &Small::ticks}); }
};
struct SmallLater {
  static constexpr std::string_view kKind = "timer";
  uint32_t ticks = 0;
  uint8_t mode = 3;
  bool operator==(const SmallLater&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "ticks", &SmallLater::ticks}, Field{2, "mode", &SmallLater::mode, /*since=*/2});
  }
};

struct Holder {
  static constexpr std::string_view kKind = "holder";
  Small small;
  bool operator==(const Holder&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "small", &Holder::small}); }
};
struct HolderLater {
  static constexpr std::string_view kKind = "holder";
  SmallLater small;
  bool operator==(const HolderLater&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "small", &HolderLater::small}); }
};

struct Tree {
  static constexpr std::string_view kKind = "tree";
  std::vector<Tree> children;
  bool operator==(const Tree&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "children", &Tree::children}); }
};

struct Outer {
  static constexpr std::string_view kKind = "outer";
  Inner inner{.a = 1, .text = "outer's"};
  bool operator==(const Outer&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "inner", &Outer::inner}); }
};

struct Fat {
  std::array<uint64_t, 512> words{};
  bool operator==(const Fat&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "words", &Fat::words}); }
};
struct FatList {
  static constexpr std::string_view kKind = "fat";
  std::vector<Fat> list;
  bool operator==(const FatList&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "list", &FatList::list}); }
};

std::vector<std::byte> raw(std::initializer_list<int> bytes) {
  std::vector<std::byte> out;
  for (const int byte : bytes) out.push_back(static_cast<std::byte>(byte));
  return out;
}

template <class T>
std::string error_of(const Result<T>& result) {
  return result.has_value() ? "(no error)" : result.error().text();
}

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(StateTest, EveryKindPassesTheTypedChecks) {
  testing::check_state(filled());
}

TEST(StateTest, DefaultsPassTheTypedChecks) {
  testing::check_state(Everything{});
}

TEST(StateTest, TheBytesOfASmallStructAreThese) {
  const std::vector<std::byte> bytes = state::to_bytes(Small{.ticks = 0x01020304});

  const auto head = raw({'S', 'T', 'R', 'A',  'T',  'O',  'S', 'T', 1, 0,   1,   0,   5,   0,   0,
                         0,   7,   0,   0,    0,    0,    0,   0,   0, 't', 'i', 'm', 'e', 'r',  // name
                         1,   0,   3,   0x04, 0x03, 0x02, 0x01});                                // field 1, kind U32
  ASSERT_EQ(bytes.size(), head.size() + 4);
  EXPECT_EQ(std::vector<std::byte>(bytes.begin(), bytes.end() - 4), head);
}

TEST(StateTest, AFieldThatEqualsItsDefaultIsNotWritten) {
  const std::vector<std::byte> bytes = state::to_bytes(SmallLater{.ticks = 5, .mode = 3});

  EXPECT_EQ(bytes, state::to_bytes(Small{.ticks = 5}));
}

TEST(StateTest, AMissingFieldGetsItsDefault) {
  const Result<SmallLater> value = state::from_bytes<SmallLater>(state::to_bytes(Small{.ticks = 5}));

  ASSERT_TRUE(value.has_value()) << error_of(value);
  EXPECT_EQ(*value, (SmallLater{.ticks = 5, .mode = 3}));
}

TEST(StateTest, AnUnknownFieldIsRefusedWithItsNumberAndTheLevelOfTheWriter) {
  const Result<Small> value = state::from_bytes<Small>(state::to_bytes(SmallLater{.ticks = 5, .mode = 4}));

  EXPECT_EQ(error_of(value), "state of 'timer': unknown field 2 (written at level 2, known here up to 1)");
  EXPECT_EQ(value.error().code(), ErrorCode::Unsupported);
}

TEST(StateTest, AnUnknownFieldOfAStructWithinIsRefusedNamingThatStruct) {
  const HolderLater newer{.small = {.ticks = 0, .mode = 4}};

  const Result<Holder> value = state::from_bytes<Holder>(state::to_bytes(newer));

  EXPECT_TRUE(holds(error_of(value), "state of 'holder': small: unknown field 2")) << error_of(value);
}

TEST(StateTest, AnErrorInAListNamesTheElement) {
  FatList value;
  value.list.resize(2);
  value.list[1].words[0] = 1;
  std::vector<std::byte> fields;
  state::Writer out;
  state::write_fields(out, value);
  fields = out.take();
  // Field 1 of element 1: u16 number, list kind; it begins after field head 3, list head 5, two struct lengths.
  fields[3 + 5 + 4 + 4] = std::byte{9};

  const Result<FatList> back = state::from_bytes<FatList>(state::frame("fat", 1, fields));

  EXPECT_TRUE(holds(error_of(back), "list: [1]: unknown field 9")) << error_of(back);
}

TEST(StateTest, OneFlippedBitAnywhereIsRefused) {
  const std::vector<std::byte> bytes = state::to_bytes(filled());
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    std::vector<std::byte> damaged = bytes;
    damaged[i / 8] ^= static_cast<std::byte>(1U << (i % 8));
    ASSERT_FALSE(state::from_bytes<Everything>(damaged).has_value()) << "bit " << i;
  }
}

TEST(StateTest, TheStateOfAnotherKindIsRefused) {
  const Result<Holder> value = state::from_bytes<Holder>(state::to_bytes(Small{.ticks = 1}));

  EXPECT_TRUE(holds(error_of(value), "something else")) << error_of(value);
}

TEST(StateTest, AnotherFormatIsRefusedByItsNumber) {
  std::vector<std::byte> bytes = state::to_bytes(Small{.ticks = 1});
  bytes[8] = std::byte{2};

  const Result<Small> value = state::from_bytes<Small>(bytes);

  EXPECT_TRUE(holds(error_of(value), "format 2")) << error_of(value);
}

TEST(StateTest, InputOverTheLimitIsRefused) {
  const std::vector<std::byte> bytes = state::to_bytes(Small{.ticks = 1});

  EXPECT_TRUE(state::from_bytes<Small>(bytes, {.max_input_bytes = bytes.size()}).has_value());
  EXPECT_FALSE(state::from_bytes<Small>(bytes, {.max_input_bytes = bytes.size() - 1}).has_value());
}

struct RefusedFields {
  const char* what;
  std::vector<std::byte> fields;
  const char* error;
};

class RefusedFieldsTest : public ::testing::TestWithParam<RefusedFields> {};

TEST_P(RefusedFieldsTest, IsRefusedWithAReason) {
  const auto& [what, fields, error] = GetParam();
  const Result<Everything> value = state::from_bytes<Everything>(state::frame("everything", 1, fields));
  EXPECT_TRUE(holds(error_of(value), error)) << what << ": " << error_of(value);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, RefusedFieldsTest,
    ::testing::Values(
        RefusedFields{"twice", raw({1, 0, 1, 5, 1, 0, 1, 5}), "field 1 after field 1"},
        RefusedFields{"descending", raw({2, 0, 2, 5, 5, 1, 0, 1, 5}), "field 1 after field 2"},
        RefusedFields{"number 0", raw({0, 0, 1, 5}), "field 0 after field 0"},
        RefusedFields{"half a number", raw({1}), "2 bytes wanted, 1 are there"},
        RefusedFields{"no kind", raw({1, 0}), "u8: 1 bytes wanted, 0 are there"},
        RefusedFields{"kind of another width", raw({1, 0, 2, 5, 5}), "u8: its kind is 2, kind 1 is wanted"},
        RefusedFields{"signed for unsigned", raw({1, 0, 5, 5}), "u8: its kind is 5, kind 1 is wanted"},
        RefusedFields{"short content", raw({4, 0, 4, 1, 2, 3}), "u64: 8 bytes wanted, 3 are there"},
        RefusedFields{"bool of 2", raw({9, 0, 1, 2}), "flag: 2 is neither 0 nor 1"},
        RefusedFields{"short array", raw({10, 0, 9, 5, 0, 0, 0, 1, 2, 3, 4, 5}), "mac: 5 bytes, 6 are wanted"},
        RefusedFields{"bytes without end", raw({11, 0, 9, 255, 255, 255, 255, 1}), "xsave: 4294967295 bytes wanted"},
        RefusedFields{"string too long", raw({12, 0, 10, 2, 0, 0, 0, 'a'}), "name: 2 bytes wanted, 1 are there"},
        RefusedFields{"struct too long", raw({13, 0, 11, 9, 0, 0, 0, 1}), "inner: 9 bytes wanted, 1 are there"},
        RefusedFields{"struct cut in a field", raw({13, 0, 11, 2, 0, 0, 0, 1, 0}), "inner: a: 1 bytes wanted"},
        RefusedFields{"list of another kind", raw({14, 0, 12, 4, 0, 0, 0, 0}), "numbers: its kind is 4"},
        RefusedFields{"list without end", raw({14, 0, 12, 3, 255, 255, 255, 255}),
                      "numbers: 4294967295 elements do not fit into 0 bytes"},
        RefusedFields{"list one short", raw({14, 0, 12, 3, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0}),
                      "numbers: 2 elements do not fit into 7 bytes"},
        RefusedFields{"fixed list of 2", raw({16, 0, 12, 2, 2, 0, 0, 0, 1, 0, 2, 0}), "triple: 2 elements, 3 are"},
        RefusedFields{"optional of another kind", raw({17, 0, 13, 3, 1, 0, 0, 0}), "maybe: kind 3 is not"}));

TEST(StateTest, NestingIsCapped) {
  Tree tree;
  for (int i = 0; i < 4; ++i) tree = Tree{.children = {tree}};
  const std::vector<std::byte> bytes = state::to_bytes(tree);

  // The list and the element each count.
  EXPECT_TRUE(state::from_bytes<Tree>(bytes, {.max_depth = 8}).has_value());
  EXPECT_TRUE(holds(error_of(state::from_bytes<Tree>(bytes, {.max_depth = 7})), "nested too deeply"));
}

TEST(StateTest, MemoryIsCappedWhereFewBytesMakeLargeStructs) {
  FatList value;
  value.list.resize(1000);  // 4 bytes each on the wire, 4 KiB each in memory
  const std::vector<std::byte> bytes = state::to_bytes(value);
  ASSERT_LT(bytes.size(), 5000U);

  EXPECT_TRUE(state::from_bytes<FatList>(bytes, {.max_memory_bytes = 1000 * sizeof(Fat)}).has_value());
  EXPECT_TRUE(holds(error_of(state::from_bytes<FatList>(bytes, {.max_memory_bytes = 1000 * sizeof(Fat) - 1})),
                    "more memory than this state may take"));
}

TEST(StateTest, AStructWithinBeginsFromItsOwnDefaults) {
  const Outer value{.inner = Inner{}};

  const Result<Outer> back = state::from_bytes<Outer>(state::to_bytes(value));

  ASSERT_TRUE(back.has_value()) << error_of(back);
  EXPECT_EQ(*back, value);
  EXPECT_EQ(state::from_bytes<Outer>(state::to_bytes(Outer{}))->inner.text, "outer's");
}

TEST(Crc32cTest, HasTheCheckValueOfTheCatalogue) {
  const char digits[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  EXPECT_EQ(state::crc32c(std::as_bytes(std::span(digits))), 0xe3069283U);
  EXPECT_EQ(state::crc32c({}), 0U);
}

}  // namespace
}  // namespace strato
