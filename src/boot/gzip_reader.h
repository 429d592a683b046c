// Unpacks one gzip member (RFC 1952) that lies somewhere in a file, a piece at a time.
// Limits: memory stays the same whatever the data claims: 64 KiB of the file and zlib's window.
// Missing: more than one member; what follows the first is not read.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "boot/boot_file.h"

namespace strato::boot {

class GzipReader {
 public:
  // `size_bytes` of the file from `offset` on: both lie in the file. `file` outlives the reader.
  static Result<GzipReader> open(const BootFile& file, uint64_t offset, uint64_t size_bytes);

  // The next bytes; fewer than asked for only at the end, whose checksum has been checked then. Errors name the file.
  Result<size_t> read(std::span<std::byte> out);

 private:
  struct End {
    void operator()(z_stream* stream) const;
  };
  // On the heap: zlib keeps its address.
  using Stream = std::unique_ptr<z_stream, End>;

  GzipReader(const BootFile& file, uint64_t offset, uint64_t size_bytes, Stream stream)
      : file_(&file), offset_(offset), left_bytes_(size_bytes), stream_(std::move(stream)) {}
  Result<> refill();

  const BootFile* file_;
  uint64_t offset_;
  uint64_t left_bytes_;
  std::vector<std::byte> input_;
  Stream stream_;
  bool ended_ = false;
};

}  // namespace strato::boot
