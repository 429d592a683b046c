#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "block/raw_file.h"

namespace strato {
namespace {

constexpr size_t kSharedBytes = 4096;
alignas(kSharedBytes) constexpr std::array<std::byte, kSharedBytes> kShared{};

}  // namespace

ZeroBlock::ZeroBlock() : bytes_(kShared) {}

void ZeroBlock::Free::operator()(std::byte* memory) const {
  std::free(memory);
}

Result<ZeroBlock> ZeroBlock::create(size_t alignment) {
  ZeroBlock block;
  if (alignment <= kSharedBytes) return block;
  block.own_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, alignment)));
  if (block.own_ == nullptr) return std::unexpected(Error::from_errno("a block of zeros for direct I/O", ENOMEM));
  std::memset(block.own_.get(), 0, alignment);
  block.bytes_ = {block.own_.get(), alignment};
  return block;
}

}  // namespace strato
