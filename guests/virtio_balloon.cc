// virtio_balloon: a driver of a virtio-balloon device on virtio-mmio. It fills memory, gives it up and looks what it
// reads then: `device=BASE INTERRUPT ID`, `features=`, `inflated=PAGES zero=PAGES kept=PAGES`, `deflated=PAGES`,
// `reported=PAGES zero=PAGES kept=PAGES` where the device takes reports, `interrupts=`, `balloon=end`. Then, by words:
// follow=N: has as many pages in the balloon as the device wants, says `size=PAGES` at each change, and ends when it
// has said so N times; it sends statistics whenever the device wants them (free memory: 1 MiB times how often it did)
// and says `asked=COUNT`. end=reset (instead of power-off). poison=VALUE: what free memory is filled with.
// bad=CASE: what a hostile driver does first (see kCases); the device is then reset and serves as any other. What the
// driver sees of its fault is `bad=CASE STATUS VALUE`. Rings are packed where the device offers that.
#include "cpu.h"
#include "lib/bad_case.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/power.h"
#include "lib/serial.h"
#include "lib/timer.h"
#include "lib/virtio_mmio.h"
#include "lib/virtqueue.h"

using namespace guest;

namespace {

using V = VirtioMmio;

constexpr uint64_t kMustTellHost = 1 << 0, kStats = 1 << 1, kDeflateOnOom = 1 << 2, kPagePoison = 1 << 4,
                   kReporting = 1 << 5;
constexpr uint32_t kInflate = 0, kDeflate = 1, kStatistics = 2, kReports = 3;
constexpr uint64_t kNumPages = V::kConfig, kActual = V::kConfig + 4, kPoisonVal = V::kConfig + 12;
constexpr uint32_t kPage = 4096;
constexpr uint32_t kListed = 256;               // pages of one list
constexpr uint32_t kSparePages = 2048;          // 8 MiB of RAM that nobody else uses
constexpr uint64_t kWord = 0x0101010101010101;  // what fills memory
constexpr uint64_t kSpareFirst = kSpareRam / kPage;

VirtioMmio device;
Virtqueue<8> inflate_queue, deflate_queue, stats_queue, report_queue;
uint32_t list[kListed];
uint32_t long_list[32 * 1024];
struct __attribute__((packed)) Stat {
  uint16_t tag;
  uint64_t value;
} stats[2];
volatile uint64_t interrupts = 0;

void on_device() {
  interrupts = interrupts + 1;
  device.write(V::kInterruptAck, device.read(V::kInterruptStatus));
}

bool offers(uint64_t feature) {
  return (device.device_features() & feature) != 0;
}

void start(uint64_t more_features = 0) {
  constexpr uint64_t kOurs = kMustTellHost | kStats | kDeflateOnOom | kPagePoison | kReporting;
  device.negotiate(device.ring_features() | (device.device_features() & kOurs) | more_features);
  set_up_queue(device, kInflate, inflate_queue);
  set_up_queue(device, kDeflate, deflate_queue);
  set_up_queue(device, kStatistics, stats_queue);
  if (offers(kReporting)) set_up_queue(device, kReports, report_queue);
  device.add_status(kVirtioDriverOk);
}

template <uint32_t kSize>
bool send(uint32_t number, Virtqueue<kSize>& queue, uint16_t first = 0) {
  queue.submit(first);
  device.write(V::kQueueNotify, number);
  for (int i = 0; i < 5000 && !queue.answered() && (device.status() & kVirtioNeedsReset) == 0; i++) delay_ns(1'000'000);
  return queue.answered();
}

bool send_list(uint32_t number, Virtqueue<8>& queue, const uint32_t* pages, uint32_t count) {
  queue.set(0, address(pages), count * sizeof(uint32_t), 0);
  return send(number, queue);
}

// Pages of the spare memory.
bool send_run(uint32_t number, Virtqueue<8>& queue, uint32_t first, uint32_t count) {
  while (count > 0) {
    const uint32_t some = count < kListed ? count : kListed;
    for (uint32_t i = 0; i < some; i++) list[i] = static_cast<uint32_t>(kSpareFirst + first + i);
    if (!send_list(number, queue, list, some)) return false;
    first += some;
    count -= some;
  }
  return true;
}

volatile uint64_t* spare(uint32_t page) {
  return reinterpret_cast<volatile uint64_t*>(kSpareRam + uint64_t{page} * kPage);
}
void fill_spare(uint32_t pages = kSparePages) {
  for (uint32_t page = 0; page < pages; page++) {
    spare(page)[0] = kWord;
    spare(page)[kPage / 8 - 1] = kWord;
  }
}
// How many of the pages read this at both ends.
uint64_t count_spare(uint32_t first, uint32_t count, uint64_t word) {
  uint64_t found = 0;
  for (uint32_t page = first; page < first + count; page++) {
    found += spare(page)[0] == word && spare(page)[kPage / 8 - 1] == word;
  }
  return found;
}

// --- what a hostile driver does; each returns something to print

uint64_t outside() {
  start();
  const uint32_t pages[] = {0xffffffff, static_cast<uint32_t>(kHole / kPage), 0x7fffffff,
                            static_cast<uint32_t>(device.base / kPage), static_cast<uint32_t>(kSpareFirst)};
  send_list(kInflate, inflate_queue, pages, 5);
  return count_spare(0, 1, 0);
}
uint64_t duplicates() {
  start();
  for (uint32_t i = 0; i < kListed; i++) list[i] = static_cast<uint32_t>(kSpareFirst + i % 3);
  send_list(kInflate, inflate_queue, list, kListed);
  return count_spare(0, 3, 0) << 32 | count_spare(3, 3, kWord);
}
// Its rings and lists, for which new ones come with the next start.
uint64_t own_rings() {
  start();
  uint32_t count = 0;
  const uint64_t first = address(&inflate_queue) / kPage;
  for (uint64_t page = first; page < (address(&inflate_queue) + sizeof(inflate_queue)) / kPage; page++) {
    list[count++] = static_cast<uint32_t>(page);
  }
  send_list(kInflate, inflate_queue, list, count);
  return 0;
}
uint64_t never_inflated() {
  start();
  return send_run(kDeflate, deflate_queue, 0, kListed) ? count_spare(0, kListed, kWord) : 0;
}
uint64_t long_lists() {
  start();
  for (uint32_t i = 0; i < 32 * 1024; i++) long_list[i] = static_cast<uint32_t>(kSpareFirst + i % 8);
  return send_list(kInflate, inflate_queue, long_list, 32 * 1024) ? count_spare(0, 8, 0) : ~uint64_t{0};
}
// A list as long as a chain can be: 2^32 - 4 bytes.
uint64_t longest_list() {
  constexpr uint32_t kPieceBytes = 4 << 20;
  static SplitDesc table[1024];
  start(kVirtioIndirect);
  for (uint32_t i = 0; i < 1024; i++) {
    const bool last = i == 1023;
    table[i] = inflate_queue.table_entry(kSpareRam, last ? kPieceBytes - 4 : kPieceBytes,
                                         last ? uint16_t{0} : kDescNext, static_cast<uint16_t>(i + 1));
  }
  inflate_queue.set(0, address(table), sizeof(table), kDescIndirect);
  return send(kInflate, inflate_queue) ? 1 : 0;
}
uint64_t odd_list() {
  start();
  list[0] = list[1] = static_cast<uint32_t>(kSpareFirst);
  inflate_queue.set(0, address(list), 7, 0);
  send(kInflate, inflate_queue);
  return count_spare(0, 1, 0);
}
uint64_t no_list() {
  start();
  inflate_queue.set(0, address(list), sizeof(list), kDescWrite);
  send(kInflate, inflate_queue);
  return inflate_queue.last_length();
}
uint64_t list_in_hole() {
  start();
  inflate_queue.set(0, kHole, 64, 0);
  return send(kInflate, inflate_queue) ? 1 : 0;
}
uint64_t report_in_hole() {
  start();
  report_queue.set(0, kHole, kPage, kDescWrite);
  return send(kReports, report_queue) ? 1 : 0;
}
uint64_t report_of_nothing() {
  start();
  report_queue.set(0, address(list), 64, 0);
  send(kReports, report_queue);
  return report_queue.last_length();
}
uint64_t report_of_parts() {  // of a page, from the middle of one to the middle of the next
  start();
  report_queue.set(0, kSpareRam + kPage / 2, kPage, kDescWrite);
  send(kReports, report_queue);
  return count_spare(0, 2, kWord);
}
uint64_t report_of_rings() {
  start();
  report_queue.set(0, address(&report_queue), sizeof(report_queue), kDescWrite);
  send(kReports, report_queue);
  return 0;
}
uint64_t sizes() {
  start();
  for (uint32_t i = 0; i < 1000; i++) device.write(kActual, 0xffffffff - i % 2);
  device.write(kNumPages, 7);
  device.write(V::kConfig + 8, 7);
  device.write(V::kConfig + 16, 7);
  return device.read(kNumPages) | device.read(V::kConfig + 8) | device.read(V::kConfig + 16);
}
uint64_t statistics() {
  start();
  stats[0] = {0xffff, 1};
  stats[1] = {4, ~uint64_t{0}};
  const uint32_t lengths[] = {1, 9, 11, sizeof(stats), sizeof(long_list)};
  for (const uint32_t length : lengths) {
    stats_queue.set(0, length <= sizeof(stats) ? address(stats) : address(long_list), length, 0);
    stats_queue.submit(0);
    device.write(V::kQueueNotify, kStatistics);
  }
  return 0;
}
uint64_t resets() {
  for (int i = 0; i < 100; i++) {
    start();
    for (uint32_t page = 0; page < kListed; page++) list[page] = static_cast<uint32_t>(kSpareFirst + page);
    for (uint16_t head = 0; head < inflate_queue.kSize; head++) {
      inflate_queue.set(head, address(list), sizeof(list), 0);
      inflate_queue.submit(head);
    }
    device.write(V::kQueueNotify, kInflate);
    device.write(V::kStatus, 0);
    // §2.1.2: not a byte may change any more.
    fill_spare(kListed);
    if (count_spare(0, kListed, kWord) != kListed) return 1;
  }
  return 0;
}

const BadCase kCases[] = {
    {"outside", outside},
    {"duplicates", duplicates},
    {"own_rings", own_rings},
    {"never_inflated", never_inflated},
    {"long_lists", long_lists},
    {"longest_list", longest_list},
    {"odd_list", odd_list},
    {"no_list", no_list},
    {"list_in_hole", list_in_hole},
    {"report_in_hole", report_in_hole},
    {"report_of_nothing", report_of_nothing},
    {"report_of_parts", report_of_parts},
    {"report_of_rings", report_of_rings},
    {"sizes", sizes},
    {"statistics", statistics},
    {"resets", resets},
};

// --- the good driver

void inflate_and_look() {
  constexpr uint32_t kFirst = 16, kCount = 1536;
  fill_spare();
  if (!send_run(kInflate, inflate_queue, kFirst, kCount)) return;
  device.write(kActual, kCount);
  print_line("inflated=", uint64_t{kCount}, " zero=", count_spare(kFirst, kCount, 0), " kept=",
             count_spare(0, kFirst, kWord) + count_spare(kFirst + kCount, kSparePages - kFirst - kCount, kWord));
  if (!send_run(kDeflate, deflate_queue, kFirst, kCount)) return;
  device.write(kActual, 0);
  fill_spare();
  print_line("deflated=", count_spare(0, kSparePages, kWord));
}

void report_and_look() {
  constexpr uint32_t kCount = 1024;
  report_queue.set(0, kSpareRam, kCount / 2 * kPage, kDescWrite | kDescNext, 1);
  report_queue.set(1, kSpareRam + kCount / 2 * kPage, kCount / 2 * kPage, kDescWrite);
  if (!send(kReports, report_queue)) return;
  print_line("reported=", uint64_t{kCount}, " zero=", count_spare(0, kCount, 0),
             " kept=", count_spare(0, kSparePages, kWord));
  fill_spare();
}

void send_stats(uint64_t asked) {
  stats[0] = {4, asked << 20};
  stats[1] = {5, 64 << 20};
  stats_queue.set(0, address(stats), sizeof(stats), 0);
  stats_queue.submit(0);
  device.write(V::kQueueNotify, kStatistics);
}

void follow(uint64_t changes) {
  uint32_t size = 0;
  uint64_t asked = 0;
  send_stats(asked);
  print_line("follows");
  while (changes > 0) {
    if (stats_queue.answered()) {
      print_line("asked=", ++asked);
      send_stats(asked);
    }
    uint32_t wanted = device.read(kNumPages);
    if (wanted > kSparePages) wanted = kSparePages;
    if (wanted == size) {
      wait_for_interrupt();
      continue;
    }
    const bool sent = wanted > size ? send_run(kInflate, inflate_queue, size, wanted - size)
                                    : send_run(kDeflate, deflate_queue, wanted, size - wanted);
    if (!sent) return;
    size = wanted;
    device.write(kActual, size);
    print_line("size=", uint64_t{size});
    changes--;
  }
}

}  // namespace

void guest_main() {
  init_interrupt_controller();
  device = find_virtio_mmio();
  if (device.base == 0) return;
  fill_spare();
  be_bad(device, kCases);

  connect_interrupt(device.interrupt, on_device);
  start();
  inflate_and_look();
  if (offers(kReporting)) {
    device.write(kPoisonVal, static_cast<uint32_t>(word_number("poison", 0)));
    report_and_look();
  }
  follow(word_number("follow", 0));
  print_line(interrupts > 0 ? "interrupts=some" : "interrupts=none");
  print_line("balloon=end");
  if (word_value("end") == "reset") request_reset();
}
