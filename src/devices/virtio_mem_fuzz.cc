// A driver that plugs and unplugs blocks of any number and asks for their state, whose memory comes late or not at all;
// the host changes its mind, stops, resets, saves and restores meanwhile. Whatever happens: what is plugged is open and
// what is not is closed, no more is plugged than was requested at some time, a block that comes is zero, an answer is
// as long as it is; and after a reset of the machine a good request is served.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"
#include "testing/mem_host.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeBlockMemory;
using strato::testing::FakeDriver;
using strato::testing::MemHost;

constexpr uint64_t kBlocks = MemHost::kBlocks;
constexpr uint64_t kBlock = MemHost::kBlock;

class Session {
 public:
  explicit Session(FuzzedDataProvider& input)
      : input_(input),
        host_({.packed = input.ConsumeBool(),
               .event_idx = input.ConsumeBool(),
               .requested_blocks = input.ConsumeIntegralInRange<uint64_t>(0, kBlocks)}),
        most_requested_(host_.options.requested_blocks) {
    host_.start();
  }

  void run() {
    for (int step = 0; step < 100 && input_.remaining_bytes() != 0; ++step) {
      act();
      look();
    }
    host_.memory.hold = host_.memory.refuse_open = host_.memory.refuse_prepare = host_.memory.refuse_discard = false;
    host_.memory.answer_held();
    host_.reset();
    host_.device->unplug_all();
    STRATO_ASSERT(host_.plugged_blocks() == 0 && host_.memory.opened_blocks() == 0);
    STRATO_ASSERT(host_.device->set_requested(3 * kBlock).has_value());
    host_.start();
    STRATO_ASSERT(host_.ask(MemRequestType::Plug, 1, 3) == MemAnswer::Ack && host_.plugged_blocks() == 3);
  }

 private:
  MemRequest request() {
    const auto type = static_cast<MemRequestType>(input_.ConsumeIntegralInRange<int>(0, 7) % 5);
    MemRequest made = MemHost::request(type, input_.ConsumeIntegralInRange<uint64_t>(0, kBlocks + 2),
                                       input_.ConsumeIntegralInRange<uint64_t>(0, kBlocks + 2));
    if (input_.ConsumeIntegral<uint8_t>() == 0xff) made.addr = input_.ConsumeIntegral<uint64_t>();
    if (input_.ConsumeIntegral<uint8_t>() == 0xff) made.nb_blocks = input_.ConsumeIntegral<uint16_t>();
    if (input_.ConsumeIntegral<uint8_t>() == 0xff) made.type = input_.ConsumeIntegral<uint16_t>();
    return made;
  }

  void submit() {
    if (host_.driver.free_slots() < 3) return;
    const MemRequest made = request();
    const auto raw = std::as_bytes(std::span(&made, 1));
    const size_t cut = input_.ConsumeIntegral<uint8_t>() == 0xff ? input_.ConsumeIntegralInRange<size_t>(1, 24) : 0;
    FakeDriver::Request chain = host_.driver.chain();
    chain.readable(raw.first(raw.size() - std::min(cut, raw.size() - 1)));
    if (const auto room = input_.ConsumeIntegralInRange<uint32_t>(0, 40); room < 39)
      chain.writable(room < 20 ? 10 : room - 18);
    if (input_.ConsumeIntegral<uint8_t>() == 0xff) {
      chain.raw(input_.ConsumeIntegral<uint64_t>(), input_.ConsumeIntegral<uint32_t>(), kDescWrite);
    }
    if (input_.ConsumeBool()) chain.indirect();
    chain.submit();
  }

  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 10)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return submit();
      case 4:
      case 5:
        return host_.ring();
      case 6: {
        FakeBlockMemory& memory = host_.memory;
        for (bool* what : {&memory.hold, &memory.refuse_open, &memory.refuse_prepare, &memory.refuse_discard}) {
          *what = input_.ConsumeIntegralInRange<int>(0, 3) == 3;
        }
        return;
      }
      case 7:
        host_.memory.answer_held();
        return host_.turn();
      case 8: {
        const uint64_t bytes = input_.ConsumeIntegralInRange<uint64_t>(0, kBlocks + 1) * kBlock +
                               (input_.ConsumeIntegral<uint8_t>() == 0xff ? 4096 : 0);
        const bool good = bytes <= kBlocks * kBlock && bytes % kBlock == 0;
        STRATO_ASSERT(host_.device->set_requested(bytes).has_value() == good);
        if (good) most_requested_ = std::max(most_requested_, bytes / kBlock);
        return;
      }
      case 9:
        return save_and_restore();
      default:
        host_.reset();
        if (input_.ConsumeBool()) host_.device->unplug_all();
        return host_.start();
    }
  }

  void save_and_restore() {
    Queue queue = host_.stop();
    host_.memory.answer_held();  // nobody is to answer for another device
    host_.turn();
    MemState saved = host_.saved();
    FakeBlockMemory& memory = host_.memory;
    const bool hold = std::exchange(memory.hold, false);
    const bool refuse = std::exchange(memory.refuse_open, false);
    for (FakeBlockMemory::Block& block : memory.blocks) block.opened = 0;
    if (input_.ConsumeIntegral<uint8_t>() == 0xff) {  // what a file may say; then as it was
      MemState bad = saved;
      if (!bad.plugged.empty())
        bad.plugged[input_.ConsumeIntegralInRange<size_t>(0, bad.plugged.size() - 1)] ^= std::byte{1};
      bad.usable_bytes = input_.ConsumeIntegralInRange<uint64_t>(0, kBlocks + 1) * kBlock;
      bad.plugged.resize(input_.ConsumeIntegralInRange<size_t>(6, 10));
      if (host_.make(bad)) {
        STRATO_ASSERT(host_.saved() == bad);
      }
      for (FakeBlockMemory::Block& block : memory.blocks) block.opened = 0;
    }
    STRATO_ASSERT(host_.make(saved).has_value());
    STRATO_ASSERT(host_.saved() == saved);
    memory.hold = hold;
    memory.refuse_open = refuse;
    host_.start_queue(std::move(queue));
  }

  void look() {
    for (const FakeDriver::Used& used : host_.driver.take_used()) {
      STRATO_ASSERT(used.len == 0 || used.len == sizeof(MemResponse));
    }
    const MemBlocks& blocks = host_.device->plugged();
    STRATO_ASSERT(blocks.plugged_bytes() == host_.device->plugged_bytes());
    uint64_t plugged = 0;
    for (uint64_t block = 0; block < kBlocks; ++block) {
      FakeBlockMemory::Block& behind = host_.memory.blocks[block];
      const bool is = blocks.plugged_in({.first = block, .count = 1}) != 0;
      STRATO_ASSERT(is ? behind.opened >= 1 : behind.opened == 0 || !host_.memory.held.empty());
      // What comes and what goes is zero; then the guest writes where it can.
      STRATO_ASSERT(is == was_plugged_[block] || behind.content == 0);
      was_plugged_[block] = is;
      behind.content = 1;
      plugged += is ? 1 : 0;
    }
    STRATO_ASSERT(plugged <= most_requested_);
  }

  FuzzedDataProvider& input_;
  MemHost host_;
  uint64_t most_requested_;
  std::array<bool, kBlocks> was_plugged_{};
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  strato::set_log_level(strato::LogLevel::Error);
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(input).run();
  return 0;
}
