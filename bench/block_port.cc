// What the block layer costs: its ports, without a device, against raw io_uring on the same file in the same run.
// Random 4 KiB with O_DIRECT, IOPS and CPU per request (all threads of the process, the kernel's io workers among
// them).
//   block_port_bench [--seconds S] [--megabytes M] FILE      FILE is made, and removed afterwards
#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "block/raw_disk.h"
#include "event/clock.h"

namespace strato {
namespace {

constexpr uint64_t kBlockBytes = 4096;

struct Options {
  std::string path;
  uint64_t seconds = 2;
  uint64_t megabytes = 256;
};

struct Load {
  bool write;
  unsigned depth;
};

struct Figures {
  double iops;
  double cpu_us;  // per request
};

// xorshift: the cost of a number is nothing here.
class Offsets {
 public:
  explicit Offsets(uint64_t blocks) : blocks_(blocks) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % blocks_ * kBlockBytes;
  }

 private:
  const uint64_t blocks_;
  uint64_t state_ = 88172645463325252;
};

class Buffers {
 public:
  explicit Buffers(unsigned count)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, count * kBlockBytes))) {
    STRATO_ASSERT(memory_ != nullptr);
    std::fill_n(memory_.get(), count * kBlockBytes, std::byte{0x5a});
  }
  std::byte* at(unsigned index) const { return memory_.get() + index * kBlockBytes; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
};

// Counts requests between two moments.
class Meter {
 public:
  explicit Meter(uint64_t seconds) : start_ns_(clock_.now_ns()), end_ns_(start_ns_ + seconds * 1'000'000'000) {}
  // False when the time is over. Looks at the clock every 64 requests.
  bool count() { return (++requests_ & 63) != 0 || clock_.now_ns() < end_ns_; }
  Figures figures() const {
    const double wall_s = static_cast<double>(clock_.now_ns() - start_ns_) * 1e-9;
    const double requests = static_cast<double>(std::max<uint64_t>(requests_, 1));
    return {.iops = requests / wall_s, .cpu_us = (cpu_us() - start_cpu_us_) / requests};
  }

 private:
  static double cpu_us() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  }
  const MonotonicClock clock_;
  const uint64_t start_ns_;
  const uint64_t end_ns_;
  const double start_cpu_us_ = cpu_us();
  uint64_t requests_ = 0;
};

// --- the floor

Figures run_raw(const Options& options, const Load& load) {
  const UniqueFd fd(::open(options.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  STRATO_ASSERT(fd.valid());
  io_uring ring;
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  if (::io_uring_queue_init_params(128, &ring, &params) != 0) {
    STRATO_ASSERT(::io_uring_queue_init(128, &ring, 0) == 0);
  }
  const Buffers buffers(load.depth);
  Offsets offsets(options.megabytes * 256);
  Meter meter(options.seconds);
  const auto submit = [&](uint64_t index) {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring);
    STRATO_ASSERT(entry != nullptr);
    std::byte* const memory = buffers.at(static_cast<unsigned>(index));
    if (load.write) {
      ::io_uring_prep_write(entry, fd.get(), memory, kBlockBytes, offsets.next());
    } else {
      ::io_uring_prep_read(entry, fd.get(), memory, kBlockBytes, offsets.next());
    }
    ::io_uring_sqe_set_data64(entry, index);
  };
  for (unsigned i = 0; i < load.depth; ++i) submit(i);
  bool going = true;
  for (unsigned in_flight = load.depth; in_flight > 0;) {
    STRATO_ASSERT(::io_uring_submit_and_wait(&ring, 1) >= 0);
    io_uring_cqe* entry = nullptr;
    unsigned head = 0;
    unsigned count = 0;
    io_uring_for_each_cqe(&ring, head, entry) {
      STRATO_ASSERT(entry->res == static_cast<int>(kBlockBytes));
      ++count;
      going = going && meter.count();
      if (going) {
        submit(::io_uring_cqe_get_data64(entry));
      } else {
        --in_flight;
      }
    }
    ::io_uring_cq_advance(&ring, count);
  }
  const Figures figures = meter.figures();
  ::io_uring_queue_exit(&ring);
  return figures;
}

// --- ours

class Runner final : public DiskClient {
 public:
  Runner(DiskPort& port, const Options& options, const Load& load)
      : port_(port),
        buffers_(load.depth),
        offsets_(options.megabytes * 256),
        meter_(options.seconds),
        requests_(load.depth),
        pieces_(load.depth) {
    for (unsigned i = 0; i < load.depth; ++i) {
      pieces_[i] = {.iov_base = buffers_.at(i), .iov_len = kBlockBytes};
      requests_[i].op = load.write ? DiskOp::Write : DiskOp::Read;
      requests_[i].bytes = kBlockBytes;
      requests_[i].buffers = std::span(&pieces_[i], 1);
      requests_[i].client = this;
      submit(requests_[i]);
    }
  }
  void finished(DiskRequest& request, int os_errno) override {
    STRATO_ASSERT(os_errno == 0);
    --in_flight_;
    going_ = going_ && meter_.count();
    if (going_) submit(request);
  }
  unsigned in_flight() const { return in_flight_; }
  Figures figures() const { return meter_.figures(); }

 private:
  void submit(DiskRequest& request) {
    request.offset = offsets_.next();
    ++in_flight_;
    port_.submit(request);
  }
  DiskPort& port_;
  const Buffers buffers_;
  Offsets offsets_;
  Meter meter_;
  std::vector<DiskRequest> requests_;
  std::vector<iovec> pieces_;
  unsigned in_flight_ = 0;
  bool going_ = true;
};

std::optional<Figures> run_port(const Options& options, const Load& load, DiskEngine engine) {
  const MonotonicClock clock;
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("bench", clock);
  STRATO_ASSERT(loop.has_value());
  DiskEngines engines;
  Result<std::unique_ptr<RawDisk>> disk = RawDisk::open(engines, {.path = options.path, .engine = engine});
  if (!disk) {
    fmt::print("  {}\n", disk.error().text());
    return {};
  }
  Result<std::unique_ptr<DiskPort>> port = (*disk)->attach(**loop);
  STRATO_ASSERT(port.has_value());
  Runner runner(**port, options, load);
  while (runner.in_flight() > 0) (*loop)->run_once(std::nullopt);
  return runner.figures();
}

// ---

bool make_file(const Options& options) {
  const UniqueFd fd(::open(options.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return false;
  const std::vector<std::byte> megabyte(1024 * 1024, std::byte{0x5a});
  for (uint64_t i = 0; i < options.megabytes; ++i) {
    if (::write(fd.get(), megabyte.data(), megabyte.size()) != static_cast<ssize_t>(megabyte.size())) return false;
  }
  return ::fsync(fd.get()) == 0;
}

void print_row(std::string_view name, const Figures& figures, const Figures& floor) {
  fmt::print("  {:10} {:9.0f} IOPS ({:4.2f})   {:6.2f} us CPU per request ({:4.2f})\n", name, figures.iops,
             figures.iops / floor.iops, figures.cpu_us, figures.cpu_us / floor.cpu_us);
}

int run(const Options& options) {
  if (!make_file(options)) {
    std::perror(options.path.c_str());
    return 1;
  }
  for (const Load load : {Load{false, 1}, Load{false, 32}, Load{true, 1}, Load{true, 32}}) {
    fmt::print("random 4 KiB {}, depth {}; in brackets: to raw io_uring\n", load.write ? "writes" : "reads",
               load.depth);
    const Figures floor = run_raw(options, load);
    print_row("raw", floor, floor);
    for (const DiskEngine engine : {DiskEngine::IoUring, DiskEngine::Native, DiskEngine::Threads}) {
      const std::optional<Figures> figures = run_port(options, load, engine);
      if (figures) print_row(to_string(engine), *figures, floor);
    }
  }
  ::unlink(options.path.c_str());
  fmt::print("aim: io_uring at most 1.30 of the CPU of raw at depth 32\n");
  return 0;
}

}  // namespace
}  // namespace strato

int main(int argc, char** argv) {
  strato::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word(argv[i]);
    uint64_t* const number = word == "--seconds"     ? &options.seconds
                             : word == "--megabytes" ? &options.megabytes
                                                     : nullptr;
    if (number != nullptr && i + 1 < argc) {
      const std::string_view text(argv[++i]);
      std::from_chars(text.data(), text.data() + text.size(), *number);
    } else {
      options.path = word;
    }
  }
  if (options.path.empty() || options.seconds == 0 || options.megabytes == 0) {
    fmt::print("usage: block_port_bench [--seconds S] [--megabytes M] FILE\n");
    return 2;
  }
  return strato::run(options);
}
