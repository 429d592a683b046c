// A queue, split or packed, and a driver that is mostly honest and rarely lies. As long as it has not lied, every chain
// comes out in order and whole, nothing latches, and no ring and no interrupt is missing; once it has, nothing worse
// than a latched fault may happen.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "testing/fake_driver.h"
#include "testing/guest_ram.h"
#include "virtio/queue.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::GuestRam;

struct Expected {
  uint16_t id = 0;
  std::vector<std::byte> readable{};
  uint64_t writable = 0;
};

struct Held {
  Chain chain;
  Expected expected;
  uint64_t sequence;
  bool again;
};

struct Abandoned {
  Expected expected;
  uint64_t sequence;
};

class Session {
 public:
  Session(GuestRam& ram, FuzzedDataProvider& input, const FakeDriver::Options& options)
      : ram_(ram), input_(input), options_(options), driver_(ram_, options) {
    GuestResult<Queue> made = Queue::create(ram_.memory(), driver_.config());
    STRATO_ASSERT(made.has_value());
    queue_ = *std::move(made);
  }
  ~Session() {
    for (Held& held : held_) std::move(held.chain).abandon();
  }

  void run() {
    for (int step = 0; step < 400 && input_.remaining_bytes() != 0; ++step) {
      if (input_.ConsumeIntegral<uint8_t>() == 0xff) {
        lie();
      } else {
        act();
      }
      STRATO_ASSERT(queue_->unfinished() <= options_.size);
      STRATO_ASSERT(lied_ || !queue_->broken());
    }
  }

 private:
  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 10)) {
      case 0:
      case 1:
        return submit();
      case 2:
      case 3:
        return pop();
      case 4:
      case 5:
        return push();
      case 6:
        return publish();
      case 7:
        return lied_ ? void() : take_used();
      case 8:
        return input_.ConsumeBool() ? unpop() : abandon();
      case 9:
        return notifications();
      default:
        return input_.ConsumeBool() ? restore() : refresh();
    }
  }

  void submit() {
    const size_t pieces = input_.ConsumeIntegralInRange<size_t>(1, 5);
    const bool indirect = options_.indirect && input_.ConsumeBool();
    const size_t slots = indirect ? 1 : pieces;
    if (driver_.free_slots() < slots || driver_.outstanding() >= options_.size) return;
    auto request = driver_.chain();
    Expected expected;
    const size_t readable = input_.ConsumeIntegralInRange<size_t>(0, pieces);
    for (size_t i = 0; i < pieces; ++i) {
      const auto len = input_.ConsumeIntegralInRange<uint32_t>(0, 40);
      if (i >= readable) {
        request.writable(len);
        expected.writable += len;
        continue;
      }
      const std::vector<std::byte> data(len, static_cast<std::byte>(next_byte_++));
      request.readable(data);
      expected.readable.insert(expected.readable.end(), data.begin(), data.end());
    }
    if (indirect) table_ = request.indirect().table();
    expected.id = request.submit().id;
    waiting_.push_back(std::move(expected));
    const bool rung = driver_.take_kick();
    STRATO_ASSERT(lied_ || !asleep_ || rung);
    asleep_ = false;
  }

  void pop() {
    GuestResult<std::optional<Chain>> popped = queue_->pop();
    if (!popped || !*popped) {
      STRATO_ASSERT(lied_ || (waiting_.empty() && abandoned_.empty()));
      asleep_ = popped.has_value() && notified_;
      return;
    }
    asleep_ = false;
    Chain chain = **std::move(popped);
    if (lied_) {
      use(chain);
      held_.push_back({std::move(chain), {}, 0, false});
      return;
    }
    Held held{std::move(chain), {}, 0, !abandoned_.empty()};
    if (held.again) {
      const auto oldest = std::ranges::min_element(abandoned_, {}, &Abandoned::sequence);
      held.expected = std::move(oldest->expected);
      held.sequence = oldest->sequence;
      abandoned_.erase(oldest);
    } else {
      STRATO_ASSERT(!waiting_.empty());
      held.expected = std::move(waiting_.front());
      held.sequence = next_sequence_++;
      waiting_.pop_front();
    }
    check(held);
    held_.push_back(std::move(held));
  }

  void check(Held& held) {
    Chain& chain = held.chain;
    STRATO_ASSERT(chain.head() == held.expected.id);
    STRATO_ASSERT(chain.readable_bytes() == held.expected.readable.size());
    STRATO_ASSERT(chain.writable_bytes() == held.expected.writable);
    if (held.again) return use(chain);
    std::vector<std::byte> got(held.expected.readable.size());
    // In two parts, cut anywhere.
    const auto cut = input_.ConsumeIntegralInRange<size_t>(0, got.size());
    GuestResult<ChainReader> front = chain.reader.split(cut);
    STRATO_ASSERT(front.has_value());
    STRATO_ASSERT(chain.reader.read_all(std::span(got).subspan(cut)).has_value());
    STRATO_ASSERT(front->read_all(std::span(got).first(cut)).has_value());
    STRATO_ASSERT(got == held.expected.readable);
    STRATO_ASSERT(!chain.reader.read<uint8_t>().has_value());
  }

  // Reads and writes all that there is, in the ways that there are.
  void use(Chain& chain) {
    std::array<std::byte, 64> some{};
    const uint64_t there = chain.reader.remaining();
    const auto skipped = input_.ConsumeIntegralInRange<uint64_t>(0, 8);
    STRATO_ASSERT(chain.reader.skip(skipped).has_value() == (skipped <= there));
    chain.reader.read_some(some);
    STRATO_ASSERT(!chain.reader.split(chain.reader.remaining() + 1).has_value());
    if (!chain.reader.empty()) STRATO_ASSERT(chain.reader.lease().has_value());
    const uint64_t all = chain.writable_bytes();
    const uint64_t middle = all / 2;
    const auto data = std::span(some).first(std::min<uint64_t>(some.size(), all - middle));
    STRATO_ASSERT(chain.write_at(middle, data).has_value());
    STRATO_ASSERT(!chain.write_at(all, std::span(some).first(1)).has_value());
    fill_front(chain.writer);
    const uint64_t room = chain.writer.remaining();
    if (input_.ConsumeBool()) {
      GuestResult<ChainWriter> tail = chain.writer.split_tail(input_.ConsumeIntegralInRange<uint64_t>(0, room));
      STRATO_ASSERT(tail.has_value());
      GuestResult<DmaLease> lease = tail->lease();
      STRATO_ASSERT(lease.has_value());
      lease->complete(lease->remaining_bytes() / 2);
    }
    chain.writer.write_some(some);
    STRATO_ASSERT(!chain.writer.write_all(std::vector<std::byte>(room + 1)).has_value());
  }

  void fill_front(ChainWriter& writer) {
    const uint64_t before = writer.remaining();
    const auto wanted = input_.ConsumeIntegralInRange<uint64_t>(0, 24);
    GuestResult<ChainWriter> front = writer.split(wanted);
    STRATO_ASSERT(front.has_value() == (wanted <= before));
    if (!front) return;
    STRATO_ASSERT(front->remaining() == wanted && writer.remaining() == before - wanted);
    STRATO_ASSERT(front->fill(wanted / 2, std::byte{0x5a}).has_value() && front->written() == wanted / 2);
    STRATO_ASSERT(!front->fill(wanted + 1, std::byte{0}).has_value());
  }

  void push() {
    if (held_.empty()) return;
    const size_t which = input_.ConsumeIntegralInRange<size_t>(0, held_.size() - 1);
    Held held = std::move(held_[which]);
    held_.erase(held_.begin() + static_cast<ptrdiff_t>(which));
    const auto written = static_cast<uint32_t>(held.chain.writable_bytes() / 2);
    pushed_.push_back({held.expected.id, written});
    queue_->push_used(std::move(held.chain), written);
  }

  void publish() {
    const bool anything = !pushed_.empty();
    const bool interrupt = queue_->publish();
    STRATO_ASSERT(lied_ || anything || !interrupt);
    STRATO_ASSERT(lied_ || !anything || !wants_interrupt_ || interrupt);
    if (interrupt) wants_interrupt_ = false;
    published_.insert(published_.end(), pushed_.begin(), pushed_.end());
    pushed_.clear();
  }

  void take_used() {
    const std::vector<FakeDriver::Used> used = driver_.take_used();
    STRATO_ASSERT(used == published_);
    published_.clear();
    if (input_.ConsumeBool()) {
      driver_.interrupt_after(1);
      wants_interrupt_ = true;
    }
  }

  void unpop() {
    if (lied_) return;
    const auto found = std::ranges::find_if(
        held_, [this](const Held& held) { return held.again || held.sequence == next_sequence_ - 1; });
    if (found == held_.end()) return;
    Held held = std::move(*found);
    held_.erase(found);
    queue_->unpop(std::move(held.chain));
    if (held.again) {
      abandoned_.push_back({std::move(held.expected), held.sequence});
    } else {
      waiting_.push_front(std::move(held.expected));
      --next_sequence_;
    }
  }

  void abandon() {
    if (held_.empty()) return;
    Held held = std::move(held_.back());
    held_.pop_back();
    std::move(held.chain).abandon();
    abandoned_.push_back({std::move(held.expected), held.sequence});
  }

  void notifications() {
    if (input_.ConsumeBool()) {
      queue_->disable_notifications();
      notified_ = asleep_ = false;
    } else {
      notified_ = true;
      const bool more = queue_->enable_notifications();
      STRATO_ASSERT(lied_ || more == (!waiting_.empty() || !abandoned_.empty()));
      asleep_ = !more;
    }
  }

  void refresh() { STRATO_ASSERT(queue_->refresh(ram_.memory()).has_value() || lied_); }

  void restore() {
    publish();
    while (!held_.empty()) abandon();
    const QueueProgress progress = queue_->progress();
    GuestResult<Queue> made = Queue::create(ram_.memory(), driver_.config(), progress);
    STRATO_ASSERT(made.has_value());
    STRATO_ASSERT(made->progress() == progress);
    queue_ = *std::move(made);
    std::ranges::sort(abandoned_, {}, &Abandoned::sequence);
    next_sequence_ = 0;
    for (Abandoned& one : abandoned_) one.sequence = next_sequence_++;
    notified_ = true;
    asleep_ = false;
  }

  void lie() {
    lied_ = true;
    const QueueConfig config = driver_.config();
    const auto value = [this] { return input_.ConsumeIntegral<uint16_t>(); };
    const uint32_t index = input_.ConsumeIntegralInRange<uint32_t>(0, options_.size - 1);
    // Mostly addresses that lead somewhere.
    const uint64_t addr = input_.ConsumeBool() ? input_.ConsumeIntegralInRange<uint64_t>(0, kMiB + 64)
                                               : input_.ConsumeIntegral<uint64_t>();
    const auto len =
        input_.ConsumeBool() ? 16 * input_.ConsumeIntegralInRange<uint32_t>(0, 8) : input_.ConsumeIntegral<uint32_t>();
    switch (input_.ConsumeIntegralInRange<int>(0, 5)) {
      case 5:
        return make_odd(config);
      case 0:
        if (!options_.packed) return driver_.publish(value());
        return driver_.put_packed_desc(index, addr, len, value(), value());
      case 1:
        if (!options_.packed) return driver_.put_avail(static_cast<uint16_t>(index), value());
        return driver_.put_packed_desc(driver_.next_offset(), addr, len, value(),
                                       static_cast<uint16_t>(driver_.available_bits() | (value() & 7)));
      case 2:
        if (!options_.packed) return driver_.put_split_desc(index, addr, len, value() & 7, value() % 70);
        return driver_.put(config.driver, le32(input_.ConsumeIntegral<uint32_t>()));
      case 3:  // in the last indirect table; the fields that are no addresses lie the other way round in a packed one
        return driver_.put(table_ + 16 * uint64_t{index % 8}, SplitDesc{addr, len, static_cast<uint16_t>(value() & 7),
                                                                        static_cast<uint16_t>(value() % 9)});
      default:
        // Anywhere in rings and buffers, tables included.
        return driver_.put(input_.ConsumeIntegralInRange<uint64_t>(options_.base, options_.base + 0x8000),
                           le64(input_.ConsumeIntegral<uint64_t>()));
    }
  }

  // A queue that no driver set up like that, or a saved one that somebody has changed: refused, or as good as another.
  void make_odd(QueueConfig config) {
    const auto value = [this] { return input_.ConsumeIntegral<uint16_t>(); };
    const auto address = [this] {
      return input_.ConsumeBool() ? input_.ConsumeIntegralInRange<uint64_t>(0, kMiB)
                                  : input_.ConsumeIntegral<uint64_t>();
    };
    QueueProgress progress = QueueProgress::initial(config.packed);
    switch (input_.ConsumeIntegralInRange<int>(0, 5)) {
      case 0:
        config.size = input_.ConsumeBool() ? value() : input_.ConsumeIntegral<uint32_t>();
        break;
      case 1:
        config.desc = address();
        break;
      case 2:
        config.driver = address();
        break;
      case 3:
        config.device = address();
        break;
      case 4:
        progress.broken = true;
        break;
      default:
        progress.next_avail = value();
        progress.next_used = value();
    }
    for (int i = input_.ConsumeIntegralInRange<int>(0, 3); i > 0; --i) {
      UnfinishedChain& chain = progress.unfinished.emplace_back();
      chain.head = input_.ConsumeBool() ? value() % 70 : value();
      chain.descriptors = input_.ConsumeBytes<uint8_t>(input_.ConsumeIntegralInRange<size_t>(0, 3) * 16);
      if (input_.ConsumeIntegral<uint8_t>() == 0xff) chain.descriptors.push_back(0);
    }
    GuestResult<Queue> made = Queue::create(ram_.memory(), config, progress);
    if (!made) return;
    STRATO_ASSERT(made->broken() == progress.broken);
    for (int i = 0; i < 4; ++i) {
      GuestResult<std::optional<Chain>> popped = made->pop();
      if (!popped || !*popped) return;
      Chain chain = **std::move(popped);
      use(chain);
      made->push_used(std::move(chain), 0);
    }
    static_cast<void>(made->publish());
  }

  GuestRam& ram_;
  FuzzedDataProvider& input_;
  FakeDriver::Options options_;
  FakeDriver driver_;
  std::optional<Queue> queue_;
  std::deque<Expected> waiting_;  // submitted and not popped
  std::vector<Abandoned> abandoned_;
  std::vector<Held> held_;
  std::vector<FakeDriver::Used> pushed_;
  std::vector<FakeDriver::Used> published_;
  uint64_t table_ = 0;
  uint64_t next_sequence_ = 0;
  uint8_t next_byte_ = 1;
  bool lied_ = false;
  bool notified_ = true;
  bool asleep_ = false;  // the queue found nothing and relies on being rung
  bool wants_interrupt_ = false;
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strato::virtio;
  FuzzedDataProvider input(data, size);
  strato::testing::FakeDriver::Options options;
  options.packed = input.ConsumeBool();
  options.event_idx = input.ConsumeBool();
  options.indirect = input.ConsumeIntegralInRange<int>(0, 7) != 0;
  const auto scale = input.ConsumeIntegralInRange<uint32_t>(0, 6);
  options.size = options.packed ? input.ConsumeIntegralInRange<uint32_t>(1, 70) : 1U << scale;
  static auto* const kRam = new strato::testing::GuestRam;  // made once: it costs more than a run
  Session(*kRam, input, options).run();
  return 0;
}
