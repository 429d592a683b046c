#include "state/format.h"

#include <array>
#include <cstring>

#include "base/endian.h"
#include "state/crc32c.h"

namespace strato::state {
namespace {

constexpr std::array<char, 8> kMagic{'S', 'T', 'R', 'A', 'T', 'O', 'S', 'T'};
constexpr uint16_t kFormat = 1;

struct Header {
  std::array<char, 8> magic;
  le16 format;
  le16 level;
  le32 kind_bytes;
  le64 fields_bytes;
};
static_assert(sizeof(Header) == 24);

constexpr uint64_t kChecksumBytes = sizeof(le32);

Error refused(std::string_view kind, std::string_view text) {
  return Error::invalid(fmt::format("state of '{}': {}", kind, text));
}

// That the lengths in the header add up to what is there, without ever adding them.
bool lengths_fit(const Header& header, uint64_t total_bytes) {
  const uint64_t rest = total_bytes - sizeof(Header) - kChecksumBytes;
  return header.kind_bytes.get() <= rest && header.fields_bytes.get() == rest - header.kind_bytes.get();
}

}  // namespace

std::vector<std::byte> frame(std::string_view kind, uint16_t level, std::span<const std::byte> fields) {
  Header header{.magic = kMagic,
                .format = kFormat,
                .level = level,
                .kind_bytes = static_cast<uint32_t>(kind.size()),
                .fields_bytes = fields.size()};
  Writer out;
  out.put_bytes(std::as_bytes(std::span(&header, 1)));
  out.put_bytes(std::as_bytes(std::span(kind)));
  out.put_bytes(fields);
  std::vector<std::byte> bytes = out.take();
  const le32 checksum = crc32c(bytes);
  const auto checksum_bytes = std::as_bytes(std::span(&checksum, 1));
  bytes.insert(bytes.end(), checksum_bytes.begin(), checksum_bytes.end());
  return bytes;
}

Result<Unframed> unframe(std::string_view kind, std::span<const std::byte> bytes, const Limits& limits) {
  if (bytes.size() > limits.max_input_bytes) {
    return std::unexpected(
        refused(kind, fmt::format("{} bytes, at most {} are accepted", bytes.size(), limits.max_input_bytes)));
  }
  if (bytes.size() < sizeof(Header) + kChecksumBytes) {
    return std::unexpected(refused(kind, fmt::format("truncated: {} bytes are no header", bytes.size())));
  }
  Header header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic) return std::unexpected(refused(kind, "this is no saved state"));
  if (header.format.get() != kFormat) {
    return std::unexpected(Error::unsupported(
        fmt::format("state of '{}': format {}, this build reads {}", kind, header.format.get(), kFormat)));
  }
  if (!lengths_fit(header, bytes.size())) {
    return std::unexpected(
        refused(kind, fmt::format("truncated or too long: {} bytes are not what its header says", bytes.size())));
  }
  le32 checksum;
  std::memcpy(&checksum, bytes.last(kChecksumBytes).data(), sizeof(checksum));
  if (checksum.get() != crc32c(bytes.first(bytes.size() - kChecksumBytes))) {
    return std::unexpected(refused(kind, "damaged: the checksum is wrong"));
  }
  const auto name = bytes.subspan(sizeof(Header), header.kind_bytes.get());
  if (!std::ranges::equal(name, std::as_bytes(std::span(kind)))) {
    return std::unexpected(refused(kind, "this is the state of something else"));
  }
  const auto fields = bytes.subspan(sizeof(Header) + name.size(), header.fields_bytes.get());
  return Unframed{.fields = fields, .level = header.level.get()};
}

}  // namespace strato::state
