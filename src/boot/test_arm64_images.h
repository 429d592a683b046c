// Hand-made arm64 kernels for tests and fuzz seeds, as test_images.h has for x86.
#pragma once

#include <zlib.h>

#include <string_view>

#include "boot/test_images.h"

namespace strato::boot::testing {

// Offsets that tests bend.
inline constexpr size_t kArm64TextOffset = 8;
inline constexpr size_t kArm64ImageSize = 16;
inline constexpr size_t kArm64Flags = 24;
inline constexpr size_t kArm64PeOffset = 60;

// 8192 bytes, 0xa4 behind the first 4096, that ask for 64 KiB; 4 KiB pages, may lie anywhere. The PE headers of an EFI
// stub announce all of it.
inline Bytes arm64_image() {
  ByteWriter out(Bytes(4096, std::byte{0}));
  out.patch(0, le16(0x5a4d));                  // "MZ", which is an instruction that does nothing
  out.patch(kArm64ImageSize, le64(0x1'0000));  // with its .bss
  out.patch(kArm64Flags, le64(0x0a));
  out.patch(0x38, le32(0x644d'5241));  // "ARM\x64"
  out.patch(kArm64PeOffset, le32(64));
  out.patch(64, le32(0x4550));      // "PE\0\0"
  out.patch(64 + 6, le16(2));       // sections
  out.patch(64 + 20, le16(160));    // bytes of the optional header
  out.patch(248 + 16, le32(4096));  // .text: 4096 bytes at 4096
  out.patch(248 + 20, le32(4096));
  out.patch(288 + 16, le32(2048));  // .data: 2048 bytes at 6144
  out.patch(288 + 20, le32(6144));
  out.bytes(Bytes(4096, std::byte{0xa4}));
  return out.take();
}
// The same without an EFI stub: nothing tells how long it is.
inline Bytes arm64_image_without_stub() {
  return patched(arm64_image(), 0, le32(0x9100'0000));
}

inline Bytes gzipped(std::span<const std::byte> data) {
  constexpr int kGzip = 16 + MAX_WBITS;
  constexpr int kMemory = 8;
  z_stream stream{};
  STRATO_ASSERT(deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzip, kMemory, Z_DEFAULT_STRATEGY) == Z_OK);
  Bytes out(deflateBound(&stream, data.size()));
  Bytes in(data.begin(), data.end());  // zlib's pointer is not const
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  STRATO_ASSERT(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// The payload at 512, a tail behind it.
inline Bytes zboot(std::span<const std::byte> payload, std::string_view compression = "gzip") {
  ByteWriter out;
  out.text("MZ", 4).text("zimg", 4).u32(512).u32(static_cast<uint32_t>(payload.size())).u64(0);
  out.text(compression, 32).u32(0x8182'23cd);
  out.zeros(512 - out.size()).bytes(payload).zeros(64);
  return out.take();
}

}  // namespace strato::boot::testing
