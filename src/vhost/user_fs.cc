#include "vhost/user_fs.h"

#include <cerrno>

#include "base/assert.h"
#include "virtio/spec.h"

namespace strato::vhost {
namespace {

// linux/fuse.h
struct FuseInHeader {
  le32 bytes;
  le32 opcode;
  le64 unique;
  le64 node;
  le32 uid;
  le32 gid;
  le32 pid;
  le32 padding;
};
static_assert(sizeof(FuseInHeader) == 40);

struct FuseOutHeader {
  le32 bytes;
  le32 error;  // a negative errno
  le64 unique;
};
static_assert(sizeof(FuseOutHeader) == 16);

}  // namespace

UserNeeds fs_needs(const FsOptions& options) {
  return {.features = virtio::kFeatureVersion1, .queues = size_t{1} + options.request_queues};
}

std::vector<std::byte> fs_config(const FsOptions& options) {
  FsConfigSpace config{.request_queues = options.request_queues};
  STRATO_ASSERT(options.tag.size() <= config.tag.size());
  options.tag.copy(config.tag.data(), config.tag.size());
  return UserChannel::to_bytes(config);
}

// FORGET and its like have no room for an answer.
uint32_t end_fuse_request(virtio::Chain& chain) {
  const GuestResult<FuseInHeader> request = chain.reader.read<FuseInHeader>();
  if (!request || chain.writer.remaining() < sizeof(FuseOutHeader)) return 0;
  const FuseOutHeader answer{.bytes = static_cast<uint32_t>(sizeof(FuseOutHeader)),
                             .error = static_cast<uint32_t>(-ENOTCONN),
                             .unique = request->unique};
  STRATO_ASSERT(chain.writer.write(answer).has_value());
  return sizeof(FuseOutHeader);
}

}  // namespace strato::vhost
