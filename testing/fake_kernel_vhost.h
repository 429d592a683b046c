// The kernel's side of vhost: what it was told, and a ring that it serves when a test says so, by the addresses that it
// was given, as the kernel does. Threads: the test's.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "vhost/kernel_port.h"
#include "vhost/kernel_vhost_abi.h"
#include "virtio/spec.h"

namespace strato::testing {

class FakeKernelVhost {
 public:
  struct Ring {
    unsigned num = 0;
    unsigned base = 0;
    vhost_vring_addr addr{};
    int kick = -1;
    int call = -1;
    int error = -1;
    int backend = -1;
  };

  uint64_t offered = virtio::kFeatureIndirect | virtio::kFeatureEventIdx | virtio::kFeatureVersion1 |
                     uint64_t{1} << 15 | uint64_t{1} << VHOST_F_LOG_ALL | uint64_t{1} << VHOST_NET_F_VIRTIO_NET_HDR;
  bool owned = false;
  uint64_t features = 0;
  std::vector<vhost_memory_region> table{};
  Ring rings[3];
  uint64_t log_base = 0;
  uint64_t guest_cid = 0;
  int running = 0;
  std::map<unsigned long, int> failures{};  // the errno of a request from now on
  std::vector<unsigned long> calls{};

  // An end for a KernelVhost; this object outlives it.
  std::unique_ptr<KernelPort> port() { return std::make_unique<Port>(*this); }
  // Whether the kernel may serve it: what it was told of it is whole.
  bool serves(size_t ring) const { return rings[ring].backend >= 0 || running != 0; }

  // Answers the next chain: `data` into its first buffer. False: there is none.
  bool serve(size_t index, std::span<const std::byte> data) {
    STRATO_ASSERT(serves(index));
    Ring& ring = rings[index];
    uint16_t avail = 0;
    std::memcpy(&avail, at(ring.addr.avail_user_addr + 2), 2);
    if (avail == static_cast<uint16_t>(ring.base)) return false;
    const uint64_t slot = ring.base % ring.num;
    uint16_t head = 0;
    std::memcpy(&head, at(ring.addr.avail_user_addr + 4 + 2 * slot), 2);
    virtio::SplitDesc desc;
    std::memcpy(&desc, at(ring.addr.desc_user_addr + sizeof(desc) * head), sizeof(desc));
    STRATO_ASSERT(data.size() <= desc.len.get());
    if (!data.empty()) {
      std::memcpy(at(translate(desc.addr.get())), data.data(), data.size());
      note(desc.addr.get(), data.size());
    }
    const uint32_t element[] = {head, static_cast<uint32_t>(data.size())};
    std::memcpy(at(ring.addr.used_user_addr + 4 + 8 * slot), element, sizeof(element));
    ring.base = (ring.base + 1) & 0xffff;
    const auto used = static_cast<uint16_t>(ring.base);
    std::memcpy(at(ring.addr.used_user_addr + 2), &used, 2);
    if ((ring.addr.flags & 1 << VHOST_VRING_F_LOG) != 0) note(ring.addr.log_guest_addr, 4 + 8 * (slot + 1));
    signal(ring.call);
    return true;
  }
  void break_ring(size_t index) { signal(rings[index].error); }

 private:
  class Port final : public KernelPort {
   public:
    explicit Port(FakeKernelVhost& kernel) : kernel_(kernel) {}
    int call(unsigned long request, void* argument) override { return kernel_.call(request, argument); }

   private:
    FakeKernelVhost& kernel_;
  };

  static std::byte* at(uint64_t address) { return reinterpret_cast<std::byte*>(address); }
  static void signal(int fd) { STRATO_ASSERT(::eventfd_write(fd, 1) == 0); }

  uint64_t translate(uint64_t guest) const {
    for (const vhost_memory_region& region : table) {
      if (guest >= region.guest_phys_addr && guest - region.guest_phys_addr < region.memory_size) {
        return region.userspace_addr + (guest - region.guest_phys_addr);
      }
    }
    STRATO_ASSERT(false);
    return 0;
  }

  void note(uint64_t guest, uint64_t bytes) {
    if ((features & uint64_t{1} << VHOST_F_LOG_ALL) == 0) return;
    for (uint64_t page = guest / 4096; page <= (guest + bytes - 1) / 4096; ++page) {
      *at(log_base + page / 8) |= std::byte{1} << page % 8;
    }
  }

  int call(unsigned long request, void* argument) {
    calls.push_back(request);
    const auto failure = failures.find(request);
    if (failure != failures.end()) return failure->second;
    const auto state = [argument] { return static_cast<vhost_vring_state*>(argument); };
    const auto file = [argument] { return static_cast<vhost_vring_file*>(argument); };
    switch (request) {
      case VHOST_GET_FEATURES:
        *static_cast<uint64_t*>(argument) = offered;
        return 0;
      case VHOST_SET_FEATURES:
        features = *static_cast<uint64_t*>(argument);
        return (features & ~offered) == 0 ? 0 : EOPNOTSUPP;
      case VHOST_SET_OWNER:
        return std::exchange(owned, true) ? EBUSY : 0;
      case VHOST_SET_MEM_TABLE: {
        const auto* memory = static_cast<vhost_memory*>(argument);
        table.assign(memory->regions, memory->regions + memory->nregions);
        return 0;
      }
      case VHOST_SET_LOG_BASE:
        log_base = *static_cast<uint64_t*>(argument);
        return 0;
      case VHOST_SET_VRING_NUM:
        if (serves(state()->index)) return EBUSY;
        rings[state()->index].num = state()->num;
        return 0;
      case VHOST_SET_VRING_BASE:
        if (serves(state()->index)) return EBUSY;
        rings[state()->index].base = state()->num;
        return 0;
      case VHOST_GET_VRING_BASE:
        // One that is still served might go on.
        if (serves(state()->index)) return EBUSY;
        state()->num = rings[state()->index].base;
        return 0;
      case VHOST_SET_VRING_ADDR: {
        const auto* addr = static_cast<vhost_vring_addr*>(argument);
        rings[addr->index].addr = *addr;
        return 0;
      }
      case VHOST_SET_VRING_KICK:
        rings[file()->index].kick = file()->fd;
        return 0;
      case VHOST_SET_VRING_CALL:
        rings[file()->index].call = file()->fd;
        return 0;
      case VHOST_SET_VRING_ERR:
        rings[file()->index].error = file()->fd;
        return 0;
      case VHOST_NET_SET_BACKEND:
        rings[file()->index].backend = file()->fd;
        return 0;
      case VHOST_VSOCK_SET_GUEST_CID:
        guest_cid = *static_cast<uint64_t*>(argument);
        return 0;
      case VHOST_VSOCK_SET_RUNNING:
        running = *static_cast<int*>(argument);
        return 0;
      default:
        return ENOTTY;
    }
  }
};

}  // namespace strato::testing
