#include "machine/io_threads.h"

#include <gtest/gtest.h>

namespace strato {
namespace {

TEST(IoThreadsTest, DevicesGetTheThreadThatTheyNameOrTheDefaultOne) {
  const MonotonicClock clock;
  const IothreadConfig wanted[] = {{.id = "t1"}, {.id = "t2", .poll_max_ns = 1000}};
  const std::unique_ptr<IoThreads> threads = *IoThreads::create(wanted, clock);
  EventLoop* first = *threads->loop("t1");
  EventLoop* second = *threads->loop("t2");
  EventLoop* fallback = *threads->loop("");
  EXPECT_EQ(first->name(), "t1");
  EXPECT_EQ(second->name(), "t2");
  EXPECT_EQ(fallback->name(), "io");
  EXPECT_EQ(*threads->loop(""), fallback);

  EXPECT_FALSE(first->in_loop_thread());
  threads->stop();
  for (const EventLoop* loop : {first, second, fallback}) EXPECT_TRUE(loop->in_loop_thread());
}

}  // namespace
}  // namespace strato
