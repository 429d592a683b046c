#include "boot/aml.h"

#include <initializer_list>
#include <limits>
#include <utility>

namespace strato::boot::aml {
namespace {

// ACPI 6.3 §20.3.
enum Op : uint8_t {
  kZero = 0x00,
  kOne = 0x01,
  kName = 0x08,
  kBytePrefix = 0x0a,
  kWordPrefix = 0x0b,
  kDwordPrefix = 0x0c,
  kStringPrefix = 0x0d,
  kQwordPrefix = 0x0e,
  kScope = 0x10,
  kBuffer = 0x11,
  kPackage = 0x12,
  kVarPackage = 0x13,
  kMethod = 0x14,
  kDualName = 0x2e,
  kMultiName = 0x2f,
  kExtended = 0x5b,
  kLocal0 = 0x60,
  kArg0 = 0x68,
  kStore = 0x70,
  kAnd = 0x7b,
  kNotify = 0x86,
  kLogicalEqual = 0x93,
  kIf = 0xa0,
  kElse = 0xa1,
  kReturn = 0xa4,
};
// After kExtended.
enum ExtendedOp : uint8_t { kOpRegion = 0x80, kField = 0x81, kDevice = 0x82 };

constexpr size_t kSegmentLen = 4;

void append(ByteWriter& out, const Terms& terms) {
  for (const Term& term : terms) out.bytes(term.bytes);
}

bool is_name_char(char c, bool first) {
  return c == '_' || (c >= 'A' && c <= 'Z') || (!first && c >= '0' && c <= '9');
}

void append_segment(ByteWriter& out, std::string_view segment) {
  STRATO_ASSERT(!segment.empty() && segment.size() <= kSegmentLen);
  for (size_t i = 0; i < segment.size(); ++i) STRATO_ASSERT(is_name_char(segment[i], i == 0));
  out.text(segment, kSegmentLen, '_');
}

// §20.2.2 NameString.
void append_path(ByteWriter& out, std::string_view path) {
  while (!path.empty() && (path.front() == '\\' || path.front() == '^')) {
    out.u8(static_cast<uint8_t>(path.front()));
    path.remove_prefix(1);
  }
  const size_t segments = path.empty() ? 0 : static_cast<size_t>(std::ranges::count(path, '.')) + 1;
  STRATO_ASSERT(segments <= std::numeric_limits<uint8_t>::max());
  if (segments == 0) out.u8(kZero);
  if (segments == 2) out.u8(kDualName);
  if (segments > 2) out.u8(kMultiName).u8(static_cast<uint8_t>(segments));
  while (!path.empty()) {
    const size_t dot = path.find('.');
    append_segment(out, path.substr(0, dot));
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
}

// §20.2.4 PkgLength: a number in 6, 12, 20 or 28 bits. One that is part of a package counts itself.
void append_length(ByteWriter& out, size_t value, bool counts_itself) {
  for (unsigned extra = 0; extra <= 3; ++extra) {
    const size_t total = value + (counts_itself ? 1 + extra : 0);
    if (total >= (extra == 0 ? size_t{1} << 6 : size_t{1} << (4 + 8 * extra))) continue;
    if (extra == 0) {
      out.u8(static_cast<uint8_t>(total));
      return;
    }
    out.u8(static_cast<uint8_t>(extra << 6 | (total & 0xf)));
    for (unsigned i = 0; i < extra; ++i) out.u8(static_cast<uint8_t>(total >> (4 + 8 * i)));
    return;
  }
  STRATO_ASSERT(!"AML package of 256 MiB");
}

Term with_length(std::initializer_list<uint8_t> op, const ByteWriter& content) {
  ByteWriter out;
  for (const uint8_t byte : op) out.u8(byte);
  append_length(out, content.size(), /*counts_itself=*/true);
  out.bytes(content.view());
  return {out.take()};
}

Term operation(Op op, std::initializer_list<const Term*> operands) {
  ByteWriter out;
  out.u8(op);
  for (const Term* operand : operands) out.bytes(operand->bytes);
  return {out.take()};
}

}  // namespace

Bytes encode(const Terms& terms) {
  ByteWriter out;
  append(out, terms);
  return out.take();
}

Term integer(uint64_t value) {
  ByteWriter out;
  if (value <= 1) {
    out.u8(value == 0 ? kZero : kOne);
  } else if (value <= std::numeric_limits<uint8_t>::max()) {
    out.u8(kBytePrefix).u8(static_cast<uint8_t>(value));
  } else if (value <= std::numeric_limits<uint16_t>::max()) {
    out.u8(kWordPrefix).u16(static_cast<uint16_t>(value));
  } else if (value <= std::numeric_limits<uint32_t>::max()) {
    out.u8(kDwordPrefix).u32(static_cast<uint32_t>(value));
  } else {
    out.u8(kQwordPrefix).u64(value);
  }
  return {out.take()};
}

Term string(std::string_view text) {
  for (const char c : text) STRATO_ASSERT(c >= 0x20 && c < 0x7f);
  ByteWriter out;
  out.u8(kStringPrefix).text(text, text.size() + 1);
  return {out.take()};
}

// §19.3.4: three letters of 5 bits and four hex digits, most significant byte first.
Term eisa_id(std::string_view id) {
  STRATO_ASSERT(id.size() == 7);
  uint32_t value = 0;
  for (size_t i = 0; i < 3; ++i) {
    STRATO_ASSERT(id[i] >= 'A' && id[i] <= 'Z');
    value = value << 5 | static_cast<uint32_t>(id[i] - '@');
  }
  for (size_t i = 3; i < 7; ++i) {
    const bool decimal = id[i] >= '0' && id[i] <= '9';
    STRATO_ASSERT(decimal || (id[i] >= 'A' && id[i] <= 'F'));
    value = value << 4 | static_cast<uint32_t>(decimal ? id[i] - '0' : id[i] - 'A' + 10);
  }
  ByteWriter out;
  out.u8(kDwordPrefix).object(be32(value));
  return {out.take()};
}

Term package(const Terms& elements) {
  ByteWriter content;
  const bool small = elements.size() <= std::numeric_limits<uint8_t>::max();
  if (small) {
    content.u8(static_cast<uint8_t>(elements.size()));
  } else {
    content.bytes(integer(elements.size()).bytes);
  }
  append(content, elements);
  return with_length({small ? kPackage : kVarPackage}, content);
}

Term buffer(std::span<const std::byte> data) {
  ByteWriter content(integer(data.size()).bytes);
  content.bytes(data);
  return with_length({kBuffer}, content);
}

Term path(std::string_view path) {
  ByteWriter out;
  append_path(out, path);
  return {out.take()};
}

Term arg(unsigned index) {
  STRATO_ASSERT(index <= 6);
  return {{std::byte(kArg0 + index)}};
}

Term local(unsigned index) {
  STRATO_ASSERT(index <= 7);
  return {{std::byte(kLocal0 + index)}};
}

Term name(std::string_view path, const Term& value) {
  ByteWriter out;
  out.u8(kName);
  append_path(out, path);
  out.bytes(value.bytes);
  return {out.take()};
}

Term scope(std::string_view path, const Terms& body) {
  ByteWriter content;
  append_path(content, path);
  append(content, body);
  return with_length({kScope}, content);
}

Term device(std::string_view path, const Terms& body) {
  ByteWriter content;
  append_path(content, path);
  append(content, body);
  return with_length({kExtended, kDevice}, content);
}

Term method(std::string_view path, unsigned args, Serialize serialize, const Terms& body) {
  STRATO_ASSERT(args <= 7);
  ByteWriter content;
  append_path(content, path);
  content.u8(static_cast<uint8_t>(args | (serialize == Serialize::Yes ? 1U << 3 : 0)));
  append(content, body);
  return with_length({kMethod}, content);
}

Term operation_region(std::string_view path, RegionSpace space, uint64_t offset, uint64_t len_bytes) {
  ByteWriter out;
  out.u8(kExtended).u8(kOpRegion);
  append_path(out, path);
  out.u8(static_cast<uint8_t>(space)).bytes(integer(offset).bytes).bytes(integer(len_bytes).bytes);
  return {out.take()};
}

Term field(std::string_view region, FieldAccess access, FieldLock lock, FieldUpdate update,
           std::span<const FieldUnit> units) {
  ByteWriter content;
  append_path(content, region);
  content.u8(static_cast<uint8_t>(std::to_underlying(access) | std::to_underlying(lock) << 4 |
                                  std::to_underlying(update) << 5));
  for (const FieldUnit& unit : units) {
    if (unit.name.empty()) {
      content.u8(kZero);  // ReservedField
    } else {
      append_segment(content, unit.name);
    }
    append_length(content, unit.bits, /*counts_itself=*/false);
  }
  return with_length({kExtended, kField}, content);
}

Term return_value(const Term& value) {
  return operation(kReturn, {&value});
}

Term if_true(const Term& predicate, const Terms& body) {
  ByteWriter content(predicate.bytes);
  append(content, body);
  return with_length({kIf}, content);
}

Term otherwise(const Terms& body) {
  ByteWriter content;
  append(content, body);
  return with_length({kElse}, content);
}

Term equal(const Term& a, const Term& b) {
  return operation(kLogicalEqual, {&a, &b});
}
Term store(const Term& value, const Term& target) {
  return operation(kStore, {&value, &target});
}
// The result could be stored as well: ours is only used, so the target is the null name.
Term bit_and(const Term& a, const Term& b) {
  const Term no_target = {{std::byte{kZero}}};
  return operation(kAnd, {&a, &b, &no_target});
}
Term notify(const Term& object, const Term& value) {
  return operation(kNotify, {&object, &value});
}

}  // namespace strato::boot::aml
