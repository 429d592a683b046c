// vhost_log TAP: whether what the host's own vhost-net writes comes into our dirty log, when the log begins while the
// kernel serves the ring, as a migration has it. No guest runs; TAP is up, sends nothing by itself, and has a
// neighbour 10.7.0.2. Run by network.py.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "testing/fake_driver.h"
#include "testing/queue_host.h"
#include "vhost/kernel_vhost.h"

namespace strato {
namespace {

using testing::FakeDriver;
using testing::QueueHost;

constexpr uint64_t kRam = 2 * kMiB;
constexpr uint64_t kGrain = 4096;
constexpr int kHeader = 12;  // of VERSION_1
constexpr std::string_view kText = "only the kernel wrote this";
constexpr int kPatienceMs = 60'000;

void check(bool good, std::string_view what) {
  if (good) return;
  fmt::print(stderr, "vhost_log: {}: {}\n", what, strerror(errno));
  std::exit(1);
}

template <class T>
T made(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "vhost_log: {}\n", result.error().text());
    std::exit(1);
  }
  return *std::move(result);
}

void done(const Result<>& result) {
  check(result.has_value(), result ? "" : result.error().text());
}

UniqueFd open_tap(const char* name) {
  UniqueFd tap(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  check(tap.get() >= 0, "/dev/net/tun");
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  check(::ioctl(tap.get(), TUNSETIFF, &request) == 0, name);
  int header = kHeader;
  check(::ioctl(tap.get(), TUNSETVNETHDRSZ, &header) == 0, "TUNSETVNETHDRSZ");
  return tap;
}

void send_to_guest() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(7);
  check(::inet_pton(AF_INET, "10.7.0.2", &to.sin_addr) == 1, "address");
  check(::sendto(socket.get(), kText.data(), kText.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) ==
            static_cast<ssize_t>(kText.size()),
        "sendto");
}

std::vector<uint64_t> dirty_pages(const MappedRegion& region) {
  std::vector<uint64_t> bits(region.dirty_log().word_count());
  region.dirty_log().take(bits);
  std::vector<uint64_t> pages;
  for_each_dirty_run(bits, [&](uint64_t first, uint64_t count) {
    for (uint64_t page = first; page < first + count; ++page) pages.push_back(page);
  });
  return pages;
}

class Bench {
 public:
  explicit Bench(const char* tap) : tap_(open_tap(tap)) {
    done(vhost_->set_features(virtio::kFeatureVersion1));
    // A page for each buffer.
    for (uint64_t i = 0; i < 4; ++i) driver_.chain().raw(kBuffers + i * kGrain, kGrain, virtio::kDescWrite).submit();
    done(vhost_->start_ring(
        0, {.queue = made_queue(), .interrupt = host_.line, .doorbell = host_.doorbell, .loop = *host_.loop}));
    set_backend(tap_.get());
  }
  ~Bench() {
    set_backend(-1);
    (void)vhost_->stop_ring(0);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // The buffer that the next datagram of ours came to.
  uint64_t receive() {
    send_to_guest();
    host_.doorbell.ring();
    for (int waited = 0; waited < kPatienceMs; waited += 10) {
      for (const FakeDriver::Used& used : driver_.take_used()) {
        const uint64_t buffer = kBuffers + next_++ * kGrain;
        const std::vector<std::byte> bytes = host_.ram.bytes(buffer, used.len);
        const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        if (text.find(kText) != std::string_view::npos) return buffer;
      }
      ::usleep(10'000);
    }
    check(false, "no datagram came");
    return 0;
  }

  void start_log() {
    done(region().dirty_log().start());
    done(vhost_->start_dirty_log());
  }
  void stop_log() { done(vhost_->stop_dirty_log()); }
  std::vector<uint64_t> collect() {
    vhost_->collect_dirty_log();
    return dirty_pages(region());
  }
  uint64_t used_ring() const { return driver_.config().device; }

 private:
  static constexpr uint64_t kBuffers = kMiB;

  virtio::Queue made_queue() {
    GuestResult<virtio::Queue> queue = virtio::Queue::create(host_.ram.memory(), driver_.config());
    check(queue.has_value(), "the queue");
    return *std::move(queue);
  }
  void set_backend(int fd) {
    vhost_vring_file backend{.index = 0, .fd = fd};
    done(vhost_->call(VHOST_NET_SET_BACKEND, &backend, "NET_SET_BACKEND"));
  }
  const MappedRegion& region() const { return *host_.ram.memory()->regions()[0]; }

  UniqueFd tap_;
  QueueHost host_{0, kRam};
  FakeDriver driver_{host_.ram, {.size = 16}};
  std::unique_ptr<KernelVhost> vhost_ = made(KernelVhost::create(
      {.name = "vhost", .port = made(open_kernel_port(kVhostNet)), .memory = host_.ram.map(), .rings = 2}));
  uint64_t next_ = 0;
};

int run(const char* tap) {
  Bench bench(tap);
  (void)bench.receive();
  bench.start_log();
  check(bench.collect().empty(), "pages that were written before the log began are in it");
  const uint64_t buffer = bench.receive();
  std::vector<uint64_t> wanted{bench.used_ring() / kGrain, buffer / kGrain};
  const std::vector<uint64_t> pages = bench.collect();
  check(pages == wanted, fmt::format("pages {} are in the log, and {} were written", pages.size(), wanted.size()));
  check(bench.collect().empty(), "pages are in the log twice");
  bench.stop_log();
  (void)bench.receive();
  check(bench.collect().empty(), "pages that were written after the log ended are in it");
  fmt::print("vhost_log: pages of ring and buffer, and no others\n");
  return 0;
}

}  // namespace
}  // namespace strato

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  return strato::run(argv[1]);
}
