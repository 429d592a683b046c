// virtio-fs: a directory of the host in a guest, which another process (virtiofsd) serves.
// Spec:    virtio 1.2 §5.11. Missing: notifications, the DAX window.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/endian.h"
#include "vhost/user_device.h"

namespace strato::vhost {

// §5.11.4
struct FsConfigSpace {
  std::array<char, 36> tag{};  // UTF-8, padded with zeros
  le32 request_queues;
};
static_assert(sizeof(FsConfigSpace) == 40);

struct FsOptions {
  std::string tag;  // at most 36 bytes
  uint16_t queue_size = 128;
  uint16_t request_queues = 1;
};

// One high priority queue, then those for requests.
UserNeeds fs_needs(const FsOptions& options);
std::vector<std::byte> fs_config(const FsOptions& options);

// Answers a FUSE request with an error: there is nobody (any more) who could serve it. A chain of none or a bad request
// gets nothing.
uint32_t end_fuse_request(virtio::Chain& chain);

}  // namespace strato::vhost
