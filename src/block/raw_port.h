// Private to block/: turns the requests of one loop into calls. Here are merging, splitting, short transfers, bounce
// buffers, durability and the ways to write zeros; how a call gets to the kernel is the queue's matter.
// Limits: kMaxTransfers at a time, the rest waits in order; kMaxBounces of them with a bounce buffer.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "block/disk_call.h"
#include "block/raw_file.h"

namespace strato {

inline DiskRequest*& fifo_next(DiskRequest& request) {
  return request.port_state.next;
}

class RawPort final : public DiskPort, private CallQueue::Source, private CallOwner {
 public:
  static constexpr size_t kMaxTransfers = 128;
  static constexpr size_t kMaxBounces = 4;
  static constexpr size_t kBounceBytes = 64 * 1024;
  static_assert(kBounceBytes % kMaxDirectAlignment == 0);
  // Of a call that is put together here.
  static constexpr size_t kMaxPieces = 64;
  static constexpr uint64_t kMaxMergedBytes = 1024 * 1024;

  RawPort(RawFile& file, EventLoop& loop, std::shared_ptr<CallQueue> queue, std::shared_ptr<WorkerQueue> workers);
  ~RawPort() override;

  void submit(DiskRequest& request) override;
  void drain(std::move_only_function<void()> done) override;

 private:
  enum class Phase : uint8_t {
    Answered,     // needs no call; `result` is there
    Claiming,     // comes back when it holds its claim
    Data,         // between the requests' own buffers and the file
    BounceRead,   // of a Read
    BounceFetch,  // of a Write: the blocks that it covers in part
    BounceStore,
    Zero,
    Discard,
    Sync,
  };
  struct Transfer;
  // What a bounce buffer is for now.
  struct Chunk {
    uint64_t offset;   // on the disk, aligned
    uint64_t bytes;    // ... as well
    uint64_t head;     // bytes before the payload
    uint64_t payload;  // bytes of the request
  };
  struct FreeBounce {
    void operator()(std::byte* buffer) const;
  };
  using Bounce = std::unique_ptr<std::byte[], FreeBounce>;

  void add_calls() override;
  void completed(DiskCall& call) override;

  // From requests to transfers.
  int refusal(const DiskRequest& request) const;
  bool is_aligned(const DiskRequest& request) const;
  bool becomes_zeroes(const DiskRequest& request) const;
  bool merge(DiskRequest& request);
  Transfer* free_transfer();
  void open(Transfer& transfer, DiskRequest& request);

  // A transfer, from beginning to end.
  void start(Transfer& transfer);
  void start_claimed(Transfer& transfer);
  void begin_io(Transfer& transfer, Phase phase, CallKind kind, uint64_t offset, uint64_t bytes);
  void continue_io(Transfer& transfer);
  void io_result(Transfer& transfer);
  void io_ended_early(Transfer& transfer);
  void io_done(Transfer& transfer);
  void data_done(Transfer& transfer);
  void start_sync(Transfer& transfer);
  void sync(Transfer& transfer);
  void sync_result(Transfer& transfer);
  void granted(Transfer& transfer);
  void finish(Transfer& transfer, int os_errno);
  void answer_later(Transfer& transfer, int os_errno);
  void send(Transfer& transfer);
  bool retry(Transfer& transfer);
  void release_claim(Transfer& transfer);
  void give_back(Transfer& transfer);
  std::span<const iovec> next_pieces(Transfer& transfer) const;

  // raw_port_zero.cc
  void start_zeroing(Transfer& transfer);
  void zero_by_writing(Transfer& transfer);
  void zero_result(Transfer& transfer);
  void start_discard(Transfer& transfer);
  void discard_result(Transfer& transfer);

  // raw_port_bounce.cc
  void start_bounce(Transfer& transfer);
  void next_chunk(Transfer& transfer);
  void chunk_io_done(Transfer& transfer);
  Chunk chunk(const Transfer& transfer) const;
  static void copy_payload(Transfer& transfer, const Chunk& chunk);
  void give_bounce_back(Transfer& transfer);

  RawFile& file_;
  EventLoop& loop_;
  const std::shared_ptr<CallQueue> queue_;
  const std::shared_ptr<WorkerQueue> workers_;

  Fifo<DiskRequest> pending_;
  size_t in_flight_ = 0;  // requests
  std::move_only_function<void()> drained_;

  std::vector<std::unique_ptr<Transfer>> transfers_;
  Fifo<DiskCall> free_transfers_;
  std::array<Transfer*, 8> mergeable_{};  // opened in this round, the newest of them
  size_t mergeable_count_ = 0;            // opened in this round, all of them
  Transfer* next_sync_ = nullptr;         // waits for its turn; whoever needs a sync until then goes with it

  std::vector<Bounce> free_bounces_;
  size_t bounces_ = 0;
  Fifo<DiskCall> bounce_waiters_;
};

struct RawPort::Transfer final : DiskCall, Claim {
  explicit Transfer(RawPort& owning_port) : port(owning_port) {}
  void granted() override { port.workers_->give_back(*this); }
  bool is_write() const { return op != DiskOp::Read && op != DiskOp::Flush; }

  RawPort& port;
  Phase phase = Phase::Answered;
  DiskOp op = DiskOp::Read;
  bool durable = false;
  bool may_unmap = false;
  bool bounced = false;
  uint32_t tries = 0;

  // One or more that follow each other on the disk (Flush: anyhow).
  Fifo<DiskRequest> requests;
  size_t request_count = 0;
  size_t piece_count = 0;
  uint64_t disk_offset = 0;
  uint64_t disk_bytes = 0;

  // What is to be read or written now, with as many calls as it takes.
  uint64_t io_offset = 0;
  uint64_t io_bytes = 0;
  uint64_t io_done_bytes = 0;

  Bounce bounce;
  uint64_t bounced_bytes = 0;  // of the request

  RangeClaims* claimed = nullptr;
  Fifo<DiskCall> sync_followers;
  std::unique_ptr<std::array<iovec, kMaxPieces>> own_pieces;  // kept for the next use
};

}  // namespace strato
