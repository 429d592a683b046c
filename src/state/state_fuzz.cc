// Whatever bytes come in: no crash, no unbounded memory, and what is accepted is saved and read back as itself.
// The input is the list of fields; the frame around it is made here, so that the checksum does not keep the fuzzer out.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/checked.h"
#include "state/format.h"
#include "state/register.h"

namespace strato {
namespace {

struct Node {
  static constexpr std::string_view kKind = "node";
  uint8_t u8 = 1;
  int64_t i64 = -1;
  bool flag = false;
  std::array<uint8_t, 6> mac{};
  std::vector<std::byte> bytes;
  std::string text;
  std::optional<uint32_t> maybe;
  std::array<uint16_t, 3> triple{};
  std::vector<state::Register> registers;
  std::vector<Node> children;
  bool operator==(const Node&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "u8", &Node::u8}, Field{2, "i64", &Node::i64}, Field{3, "flag", &Node::flag},
                      Field{4, "mac", &Node::mac}, Field{5, "bytes", &Node::bytes}, Field{6, "text", &Node::text},
                      Field{7, "maybe", &Node::maybe}, Field{8, "triple", &Node::triple},
                      Field{9, "registers", &Node::registers}, Field{10, "children", &Node::children});
  }
};

// Small ones, so that small inputs reach them.
constexpr state::Limits kLimits{.max_input_bytes = 3 * kKiB, .max_memory_bytes = 32 * kKiB, .max_depth = 12};

void check(std::span<const std::byte> framed) {
  const Result<Node> value = state::from_bytes<Node>(framed, kLimits);
  if (!value) return;
  const std::vector<std::byte> saved = state::to_bytes(*value);
  const Result<Node> again = state::from_bytes<Node>(saved, kLimits);
  STRATO_ASSERT(again.has_value() && *again == *value);
  STRATO_ASSERT(state::to_bytes(*again) == saved);
}

}  // namespace
}  // namespace strato

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  strato::check(input);
  strato::check(strato::state::frame("node", 1, input));
  return 0;
}
