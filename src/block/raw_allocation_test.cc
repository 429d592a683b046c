// Nothing is allocated per request: what a port has once got it uses again.
#include <gtest/gtest.h>

#include "block/test_image.h"
#include "testing/count_allocations.h"

namespace strato {
namespace {

using strato::testing::allocations;
using strato::testing::counting_allocations;

class CountingClient final : public DiskClient {
 public:
  void finished(DiskRequest& /*request*/, int os_errno) override {
    EXPECT_EQ(os_errno, 0);
    ++count;
  }
  size_t count = 0;
};

class RawAllocationTest : public ::testing::TestWithParam<DiskEngine> {};

INSTANTIATE_TEST_SUITE_P(Engines, RawAllocationTest,
                         ::testing::Values(DiskEngine::Threads, DiskEngine::Native, DiskEngine::IoUring),
                         [](const auto& engine) { return std::string(to_string(engine.param)); });

TEST_P(RawAllocationTest, NoRequestAllocates) {
  if (direct_folder().empty()) GTEST_SKIP() << "neither TMPDIR nor /var/tmp is on a file system with direct I/O";
  const MonotonicClock clock;
  const TestImage image(1024 * 1024);
  const std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  DiskEngines engines;
  const Result<> allowed = engines.probe(GetParam());
  if (!allowed) GTEST_SKIP() << allowed.error().text();
  const std::unique_ptr<RawDisk> disk = *RawDisk::open(engines, {.path = image.path(), .engine = GetParam()});
  const std::unique_ptr<DiskPort> port = *disk->attach(*loop);
  CountingClient client;

  const TestBuffer buffer(8192, std::byte{0x11});
  const TestBuffer into(8192);
  const TestBuffer ragged(1000, std::byte{0x22}, 8);
  std::array<DiskRequest, 6> requests{write_request(0, buffer),         write_request(8192, buffer),
                                      read_request(65536, into),        write_request(100, ragged),
                                      DiskRequest{.op = DiskOp::Flush}, write_request(131072, buffer, true)};
  const auto round = [&] {
    client.count = 0;
    for (DiskRequest& request : requests) {
      request.client = &client;
      port->submit(request);
    }
    while (client.count < requests.size()) loop->run_once(std::nullopt);
  };
  round();
  allocations = 0;
  counting_allocations = true;
  for (int i = 0; i < 50; ++i) round();
  counting_allocations = false;
  // A transfer's own list of pieces comes when it first needs one, which may be late: one for each at most.
  EXPECT_LE(allocations, static_cast<int>(requests.size()));
}

}  // namespace
}  // namespace strato
