#include "boot/gzip_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/checked.h"

namespace strato::boot {
namespace {

constexpr uint64_t kPieceBytes = 64 * kKiB;
constexpr int kGzipOnly = 16 + MAX_WBITS;

Bytef* as_zlib(std::byte* bytes) {
  return reinterpret_cast<Bytef*>(bytes);
}

}  // namespace

void GzipReader::End::operator()(z_stream* stream) const {
  inflateEnd(stream);
  delete stream;
}

Result<GzipReader> GzipReader::open(const BootFile& file, uint64_t offset, uint64_t size_bytes) {
  Stream stream(new z_stream{});
  if (inflateInit2(stream.get(), kGzipOnly) != Z_OK) {
    return std::unexpected(file.error("no memory to unpack it"));
  }
  return GzipReader(file, offset, size_bytes, std::move(stream));
}

Result<> GzipReader::refill() {
  if (left_bytes_ == 0) return std::unexpected(file_->error("gzip data truncated: it ends before its end mark"));
  input_.resize(std::min(left_bytes_, kPieceBytes));
  STRATO_TRY(file_->read_exact(offset_, input_));
  offset_ += input_.size();
  left_bytes_ -= input_.size();
  stream_->next_in = as_zlib(input_.data());
  stream_->avail_in = static_cast<uInt>(input_.size());
  return {};
}

Result<size_t> GzipReader::read(std::span<std::byte> out) {
  size_t done = 0;
  while (!ended_ && done < out.size()) {
    if (stream_->avail_in == 0) {
      STRATO_TRY(refill());
    }
    const uInt room = static_cast<uInt>(std::min<uint64_t>(out.size() - done, kPieceBytes));
    stream_->next_out = as_zlib(out.data() + done);
    stream_->avail_out = room;
    const int status = inflate(stream_.get(), Z_NO_FLUSH);
    done += room - stream_->avail_out;
    ended_ = status == Z_STREAM_END;
    if (status != Z_OK && status != Z_STREAM_END) {
      return std::unexpected(
          file_->error(fmt::format("gzip data damaged: {}", stream_->msg == nullptr ? "no progress" : stream_->msg)));
    }
  }
  return done;
}

}  // namespace strato::boot
