#pragma once

#include <cstdint>
#include <optional>

#include "memory/guest_memory.h"
#include "memory/ring_view.h"
#include "virtio/chain_builder.h"
#include "virtio/chain_store.h"
#include "virtio/queue_config.h"

namespace strato::virtio {

// The split ring (§2.7). Only for Queue, which knows when a fault latches and which chains are unfinished.
class SplitQueue {
 public:
  // `config` has been checked but for where its areas lie.
  static GuestResult<SplitQueue> create(const GuestMemory& memory, const QueueConfig& config,
                                        const QueueProgress& progress);
  // Looks the areas up again.
  GuestResult<> map(const GuestMemory& memory);

  // Whether fetch() would find a chain.
  GuestResult<bool> available();
  // Fills the record with the next chain, which is available.
  GuestResult<> fetch(const GuestMemory& memory, ChainRecord& record);
  // Fills the record with its chain once more.
  GuestResult<> refetch(const GuestMemory& memory, ChainRecord& record);
  // The chain that was fetched last is to be fetched again.
  void unfetch(const ChainRecord& record);
  void put_used(const ChainRecord& record, uint32_t written);
  // True: the driver wants to hear of it.
  bool publish();
  bool all_published() const { return published_ == next_used_; }

  // Asks the driver to ring for the next chain; true when that one is there already.
  bool arm();
  void disarm();

  // What QueueProgress has.
  uint16_t next_avail() const { return next_avail_; }
  uint16_t next_used() const { return next_used_; }
  // Of saved chains: whether they fit to the indexes. Makes a record of one.
  GuestResult<> check(const QueueProgress& progress) const;
  GuestResult<> restore(const UnfinishedChain& chain, ChainRecord& record) const;
  UnfinishedChain save(const ChainRecord& record) const { return {.head = record.head}; }

 private:
  explicit SplitQueue(const QueueConfig& config) : config_(config), areas_(config) {}
  GuestResult<> walk(const GuestMemory& memory, uint16_t head, ChainRecord& record) const;
  GuestResult<> walk_table(ChainBuilder& builder, const SplitDesc& desc) const;
  bool notify_wanted(uint16_t before) const;
  uint16_t unfinished() const { return static_cast<uint16_t>(next_avail_ - next_used_); }

  QueueConfig config_;
  RingAreas areas_;
  RingView desc_;
  RingView avail_;
  RingView used_;
  uint16_t next_avail_ = 0;
  uint16_t avail_seen_ = 0;  // the driver's index when we looked last
  uint16_t next_used_ = 0;
  uint16_t published_ = 0;
  std::optional<uint16_t> armed_at_;  // what the driver sees of our wishes: avail_event, or 0 for "ring"
};

}  // namespace strato::virtio
