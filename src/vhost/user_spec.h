// Numbers and messages of the vhost-user protocol, as QEMU's docs/interop/vhost-user.rst has them, that we send or
// understand. They are in the byte order of the machine, which is little-endian wherever we run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/endian.h"

namespace strato::vhost {

enum class UserRequest : uint32_t {
  GetFeatures = 1,
  SetFeatures = 2,
  SetOwner = 3,
  SetMemTable = 5,
  SetVringNum = 8,
  SetVringAddr = 9,
  SetVringBase = 10,
  GetVringBase = 11,
  SetVringKick = 12,
  SetVringCall = 13,
  GetProtocolFeatures = 15,
  SetProtocolFeatures = 16,
  GetQueueNum = 17,
  SetVringEnable = 18,
  GetConfig = 24,
};

struct UserHeader {
  le32 request;
  le32 flags;
  le32 size;  // of what follows
};
static_assert(sizeof(UserHeader) == 12);

inline constexpr uint32_t kUserVersionMask = 3;
inline constexpr uint32_t kUserVersion = 1;
inline constexpr uint32_t kUserReply = 1 << 2;
inline constexpr uint32_t kUserNeedReply = 1 << 3;

// Besides those of the device: that there are protocol features.
inline constexpr uint64_t kUserFeatureProtocol = uint64_t{1} << 30;

inline constexpr uint64_t kUserProtocolMq = 1 << 0;
inline constexpr uint64_t kUserProtocolReplyAck = 1 << 3;
inline constexpr uint64_t kUserProtocolConfig = 1 << 9;

// Without CONFIGURE_MEM_SLOTS a back end has room for so many regions.
inline constexpr size_t kUserMaxRegions = 8;
inline constexpr size_t kUserMaxConfigBytes = 256;

struct UserMemoryRegion {
  le64 guest_address;
  le64 bytes;
  le64 our_address;  // ring addresses are given as ours
  le64 fd_offset;
};
static_assert(sizeof(UserMemoryRegion) == 32);

struct UserMemoryMessage {
  le32 count;
  le32 padding{};
  std::array<UserMemoryRegion, kUserMaxRegions> regions{};  // the first `count` are sent
};
static_assert(sizeof(UserMemoryMessage) == 8 + kUserMaxRegions * 32);

// Of SET_VRING_NUM, _BASE, _ENABLE and GET_VRING_BASE.
struct UserVringState {
  le32 index;
  le32 value;
};
static_assert(sizeof(UserVringState) == 8);

struct UserVringAddresses {
  le32 index;
  le32 flags{};  // 1: log writes to the used ring
  le64 descriptors;
  le64 used;
  le64 available;
  le64 log{};
};
static_assert(sizeof(UserVringAddresses) == 40);

struct UserConfigHeader {
  le32 offset;
  le32 bytes;
  le32 flags;
};
static_assert(sizeof(UserConfigHeader) == 12);

}  // namespace strato::vhost
