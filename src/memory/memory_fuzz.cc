// A map that changes, and reads, writes, slices, leases and discards on it, against a plain model: an array of bytes
// with a kind for each page. Every answer and every byte must agree.
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/endian.h"
#include "base/unique_fd.h"
#include "memory/discard.h"
#include "memory/dma_lease.h"
#include "memory/memory_map.h"

namespace strato {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 16;
constexpr uint64_t kBytes = kPages * kPage;

struct Model {
  struct Page {
    std::string region;  // empty: a hole
    RegionKind kind = RegionKind::Ram;
  };
  std::array<Page, kPages + 1> pages;  // the last one is always a hole
  std::vector<std::byte> bytes = std::vector<std::byte>(kBytes);

  bool memory_at(uint64_t page) const {
    return page < kPages && !pages[page].region.empty() && pages[page].kind != RegionKind::Device;
  }
  bool holds(uint64_t start, uint64_t len) const {
    // An address is in memory, or just past it.
    if (start > kBytes || len > kBytes - start) return false;
    if (len == 0) {
      const uint64_t page = start / kPage;
      const bool hole = page >= kPages || pages[page].region.empty();
      return memory_at(page) || (hole && start % kPage == 0 && start != 0 && memory_at(page - 1));
    }
    for (uint64_t page = start / kPage; page <= (start + len - 1) / kPage; ++page) {
      if (!memory_at(page)) return false;
    }
    return true;
  }
  bool writable(uint64_t start, uint64_t len) const {
    if (len == 0) return true;
    for (uint64_t page = start / kPage; page <= (start + len - 1) / kPage; ++page) {
      if (pages[page].kind != RegionKind::Ram) return false;
    }
    return true;
  }
  bool one_region(uint64_t start, uint64_t len) const {
    return len == 0 || pages[start / kPage].region == pages[(start + len - 1) / kPage].region;
  }
};

// Mostly within the map, wrong when a byte is 0xff.
uint64_t number(FuzzedDataProvider& input, uint64_t limit) {
  if (input.ConsumeIntegral<uint8_t>() == 0xff) return input.ConsumeIntegral<uint64_t>();
  return input.ConsumeIntegralInRange<uint64_t>(0, limit);
}

constexpr uint64_t kFileBytes = 2 * kPage + 100;

// Bytes that tell where they stand. Made once.
class File {
 public:
  File() : fd_(::memfd_create("file", MFD_CLOEXEC)) {
    std::vector<std::byte> bytes(kFileBytes);
    for (uint64_t i = 0; i < kFileBytes; ++i) bytes[i] = at(i);
    STRATO_ASSERT(fd_.valid() &&
                  ::pwrite(fd_.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(kFileBytes));
  }
  static std::byte at(uint64_t offset) { return static_cast<std::byte>(offset % 251); }
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
};

class Session {
 public:
  Session(const File& file, FuzzedDataProvider& input) : file_(file), input_(input) {}

  void run() {
    for (int step = 0; step < 64 && input_.remaining_bytes() != 0; ++step) {
      switch (input_.ConsumeIntegralInRange<int>(0, 9)) {
        case 0:
          add();
          break;
        case 1:
          remove();
          break;
        case 2:
          read();
          break;
        case 3:
          write();
          break;
        case 4:
          fill();
          break;
        case 5:
          slice();
          break;
        case 6:
          discard();
          break;
        case 7:
          lease();
          break;
        case 8:
          load();
          break;
        case 9:
          store();
          break;
      }
    }
    compare_all();
  }

 private:
  void add() {
    Region region;
    region.start = GuestAddr(number(input_, kPages) * kPage);
    region.size = number(input_, 4) * kPage;
    region.kind = static_cast<RegionKind>(input_.ConsumeIntegralInRange<int>(0, 2));
    region.name = std::string(1, static_cast<char>('a' + input_.ConsumeIntegralInRange<int>(0, 5)));
    if (input_.ConsumeBool()) region.backing = MemfdBacking{};
    const uint64_t first = region.start.raw() / kPage;
    const uint64_t count = region.size / kPage;
    if (first > kPages || count > kPages - first) {
      // Outside of what the model knows: only the refusal of nonsense is checked, without the mapping.
      if (region.size == 0 || region.start.checked_add(region.size - 1).has_value()) return;
      STRATO_ASSERT(!map_.add(std::move(region)).has_value());
      return;
    }
    bool fits = count != 0;
    for (uint64_t page = first; page < first + count; ++page) fits = fits && model_.pages[page].region.empty();
    for (const Model::Page& page : model_.pages) fits = fits && page.region != region.name;
    const Model::Page as_page{.region = region.name, .kind = region.kind};
    STRATO_ASSERT(map_.add(std::move(region)).has_value() == fits);
    if (!fits) return;
    for (uint64_t page = first; page < first + count; ++page) model_.pages[page] = as_page;
    std::fill_n(model_.bytes.begin() + static_cast<ptrdiff_t>(first * kPage), count * kPage, std::byte{0});
  }

  void remove() {
    const std::string name(1, static_cast<char>('a' + input_.ConsumeIntegralInRange<int>(0, 5)));
    bool there = false;
    for (Model::Page& page : model_.pages) {
      if (page.region != name) continue;
      there = true;
      page = {};
    }
    STRATO_ASSERT(map_.remove(name).has_value() == there);
  }

  void read() {
    const uint64_t start = number(input_, kBytes);
    std::vector<std::byte> out(input_.ConsumeIntegralInRange<uint64_t>(0, 3 * kPage), std::byte{0xee});
    const bool valid = model_.holds(start, out.size());
    STRATO_ASSERT(map_.snapshot()->read_bytes(GuestAddr(start), out).has_value() == valid);
    for (size_t i = 0; i < out.size(); ++i) {
      STRATO_ASSERT(out[i] == (valid ? model_.bytes[start + i] : std::byte{0xee}));
    }
  }

  GuestResult<> expected_write(uint64_t start, uint64_t len) const {
    if (!model_.holds(start, len)) return std::unexpected(GuestFault::BadAddress);
    if (!model_.writable(start, len)) return std::unexpected(GuestFault::ReadOnly);
    return {};
  }

  void write() {
    const uint64_t start = number(input_, kBytes);
    std::vector<std::byte> data(input_.ConsumeIntegralInRange<uint64_t>(1, 3 * kPage));
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(++counter_);
    const GuestResult<> expected = expected_write(start, data.size());
    STRATO_ASSERT(map_.snapshot()->write_bytes(GuestAddr(start), data) == expected);
    if (expected) std::copy(data.begin(), data.end(), model_.bytes.begin() + static_cast<ptrdiff_t>(start));
  }

  void fill() {
    const uint64_t start = number(input_, kBytes);
    const uint64_t len = number(input_, 3 * kPage);
    if (len == 0) return;
    const GuestResult<> expected = expected_write(start, len);
    STRATO_ASSERT(map_.snapshot()->fill(GuestAddr(start), len, std::byte{0x77}) == expected);
    if (expected) std::fill_n(model_.bytes.begin() + static_cast<ptrdiff_t>(start), len, std::byte{0x77});
  }

  void slice() {
    const uint64_t start = number(input_, kBytes);
    const uint64_t len = number(input_, 3 * kPage);
    const auto memory = map_.snapshot();
    const GuestResult<GuestSlice> found = memory->slice(GuestAddr(start), len);
    STRATO_ASSERT(found.has_value() == (model_.holds(start, len) && model_.one_region(start, len)));
    if (!found) return;
    const uint64_t offset = number(input_, len);
    const GuestResult<uint32_t> value = found->read<uint32_t>(offset);
    STRATO_ASSERT(value.has_value() == (len >= 4 && offset <= len - 4));
    std::array<std::byte, 4> bytes{};
    STRATO_ASSERT(found->copy_to(bytes).has_value() == (len >= 4));
    STRATO_ASSERT(memory->writable_slice(GuestAddr(start), len).has_value() == found->writable());
    if (input_.ConsumeBool()) change(*found, start, offset);
    const uint64_t sub_len = number(input_, len);
    STRATO_ASSERT(found->sub(offset, sub_len).has_value() == (offset <= len && sub_len <= len - offset));
  }

  // Through a slice: a value, or all of it.
  void change(const GuestSlice& slice, uint64_t start, uint64_t offset) {
    const bool writable = model_.writable(start, slice.size()) && slice.writable();
    const auto at = model_.bytes.begin() + static_cast<ptrdiff_t>(start);
    if (input_.ConsumeBool()) {
      const le32 value = 0x33333333;
      const bool inside = slice.size() >= 4 && offset <= slice.size() - 4;
      STRATO_ASSERT(slice.write(offset, value).has_value() == (inside && writable));
      if (inside && writable) std::fill_n(at + static_cast<ptrdiff_t>(offset), 4, std::byte{0x33});
      return;
    }
    const std::vector<std::byte> data(input_.ConsumeIntegralInRange<size_t>(1, 64), std::byte{0x44});
    const bool inside = data.size() <= slice.size();
    STRATO_ASSERT(slice.copy_from(data).has_value() == (inside && writable));
    if (!writable) return;
    if (inside) std::ranges::copy(data, at);
    if (input_.ConsumeBool()) return;
    STRATO_ASSERT(slice.fill(std::byte{0x66}).has_value());
    std::fill_n(at, slice.size(), std::byte{0x66});
  }

  // From a file that may end too early.
  void load() {
    const uint64_t start = number(input_, kBytes);
    const uint64_t len = number(input_, 3 * kPage);
    const uint64_t offset = input_.ConsumeIntegralInRange<uint64_t>(0, kFileBytes);
    const bool valid = model_.holds(start, len);
    const auto done = map_.snapshot()->load_from_fd(file_.fd(), offset, GuestAddr(start), len, "file");
    STRATO_ASSERT(done.has_value() == (valid && len <= kFileBytes - offset));
    if (!valid) return;
    for (uint64_t i = 0; i < std::min(len, kFileBytes - offset); ++i) model_.bytes[start + i] = File::at(offset + i);
  }

  void store() {
    const uint64_t start = number(input_, kBytes);
    const uint64_t len = number(input_, 3 * kPage);
    const bool valid = model_.holds(start, len);
    // Behind what load() reads.
    const auto done = map_.snapshot()->store_to_fd(file_.fd(), kFileBytes, GuestAddr(start), len, "file");
    STRATO_ASSERT(done.has_value() == valid);
    if (!valid) return;
    std::vector<std::byte> out(len);
    STRATO_ASSERT(::pread(file_.fd(), out.data(), len, kFileBytes) == static_cast<ssize_t>(len));
    STRATO_ASSERT(std::equal(out.begin(), out.end(), model_.bytes.begin() + static_cast<ptrdiff_t>(start)));
    STRATO_ASSERT(::ftruncate(file_.fd(), kFileBytes) == 0);
  }

  void discard() {
    const uint64_t start = number(input_, kBytes);
    const uint64_t len = number(input_, 3 * kPage);
    const auto memory = map_.snapshot();
    const GuestResult<GuestSlice> found = memory->slice(GuestAddr(start), len);
    if (!found) return;
    const Result<uint64_t> done = discard_.discard(*found);
    const uint64_t first = (start + kPage - 1) / kPage;
    const uint64_t last = (start + len) / kPage;
    const uint64_t whole = len != 0 && found->writable() && last > first ? (last - first) * kPage : 0;
    STRATO_ASSERT(done.has_value() && *done == whole);
    if (whole == 0) return;
    std::fill_n(model_.bytes.begin() + static_cast<ptrdiff_t>(first * kPage), whole, std::byte{0});
  }

  // Plays the kernel with an iovec at a time.
  void lease() {
    const uint64_t start = number(input_, kBytes);
    const uint64_t len = number(input_, 3 * kPage);
    const auto memory = map_.snapshot();
    std::vector<GuestSlice> pieces;
    if (!memory->slices(GuestAddr(start), len, [&](const GuestSlice& piece) { pieces.push_back(piece); })) return;
    std::vector<iovec> storage(pieces.size());
    GuestResult<DmaLease> lease = DmaLease::create(memory, pieces, DmaDirection::ToGuest, storage);
    STRATO_ASSERT(lease.has_value() == model_.writable(start, len));
    if (!lease) return;
    uint64_t at = start;
    while (lease->remaining_bytes() != 0) {
      const iovec first = lease->iovecs().front();
      const auto n = input_.ConsumeIntegralInRange<size_t>(1, first.iov_len);
      std::fill_n(static_cast<std::byte*>(first.iov_base), n, std::byte{0x55});
      std::fill_n(model_.bytes.begin() + static_cast<ptrdiff_t>(at), n, std::byte{0x55});
      lease->complete(n);
      at += n;
      if (n < first.iov_len && input_.remaining_bytes() == 0) break;
    }
  }

  void compare_all() {
    const auto memory = map_.snapshot();
    for (uint64_t page = 0; page < kPages; ++page) {
      if (!model_.memory_at(page)) continue;
      std::array<std::byte, kPage> out;
      STRATO_ASSERT(memory->read_bytes(GuestAddr(page * kPage), out).has_value());
      STRATO_ASSERT(std::equal(out.begin(), out.end(), model_.bytes.begin() + static_cast<ptrdiff_t>(page * kPage)));
    }
  }

  const File& file_;
  FuzzedDataProvider& input_;
  MemoryMap map_{kPage};
  Discard discard_;
  Model model_;
  uint8_t counter_ = 0;
};

}  // namespace
}  // namespace strato

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const strato::File kFile;
  FuzzedDataProvider input(data, size);
  strato::Session(kFile, input).run();
  return 0;
}
