// For tests of this folder: image files, and a client that submits and waits.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "block/raw_disk.h"
#include "block/raw_file.h"
#include "event/clock.h"
#include "event/event_loop.h"

namespace strato {

// A folder whose file system takes O_DIRECT; empty: none of those that tests may write to does.
inline std::string direct_folder() {
  const char* const chosen = ::getenv("TMPDIR");
  for (const char* const folder : {chosen != nullptr ? chosen : "/tmp", "/var/tmp"}) {
    std::string path = fmt::format("{}/strato-block-XXXXXX", folder);
    const UniqueFd made(::mkostemp(path.data(), O_CLOEXEC));
    const UniqueFd direct(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    ::unlink(path.c_str());
    if (direct.valid()) return folder;
  }
  return {};
}

class TestImage {
 public:
  explicit TestImage(uint64_t bytes) {
    const std::string folder = direct_folder();
    path_ = fmt::format("{}/strato-block-XXXXXX", folder.empty() ? "/tmp" : folder);
    fd_ = UniqueFd(::mkostemp(path_.data(), O_CLOEXEC));
    EXPECT_TRUE(fd_.valid());
    resize(bytes);
  }
  ~TestImage() { ::unlink(path_.c_str()); }
  TestImage(const TestImage&) = delete;
  TestImage& operator=(const TestImage&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  void resize(uint64_t bytes) const { EXPECT_EQ(::ftruncate(fd(), static_cast<off_t>(bytes)), 0); }
  void write(uint64_t offset, const std::vector<std::byte>& data) const {
    EXPECT_EQ(::pwrite(fd(), data.data(), data.size(), static_cast<off_t>(offset)), static_cast<ssize_t>(data.size()));
  }
  std::vector<std::byte> read(uint64_t offset, uint64_t bytes) const {
    std::vector<std::byte> data(bytes);
    const ssize_t got = ::pread(fd(), data.data(), bytes, static_cast<off_t>(offset));
    data.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return data;
  }
  uint64_t size() const { return static_cast<uint64_t>(info().st_size); }
  uint64_t allocated_bytes() const {
    ::fsync(fd());
    return static_cast<uint64_t>(info().st_blocks) * 512;
  }

 private:
  struct stat info() const {
    struct stat info{};
    EXPECT_EQ(::fstat(fd(), &info), 0);
    return info;
  }
  std::string path_;
  UniqueFd fd_;
};

// Memory whose alignment the test knows.
class TestBuffer {
 public:
  static constexpr size_t kAlignment = kMaxDirectAlignment;
  // `skew`: bytes after a page's beginning.
  explicit TestBuffer(size_t bytes, std::byte value = std::byte{0}, size_t skew = 0)
      : memory_(static_cast<std::byte*>(
            std::aligned_alloc(kAlignment, (bytes + skew + kAlignment) / kAlignment * kAlignment))),
        bytes_(memory_.get() + skew, bytes) {
    std::fill(bytes_.begin(), bytes_.end(), value);
    whole_[0] = {.iov_base = bytes_.data(), .iov_len = bytes_.size()};
  }
  TestBuffer(TestBuffer&&) = default;

  std::span<std::byte> bytes() const { return bytes_; }
  std::span<const iovec> whole() const { return whole_; }
  std::vector<std::byte> content() const { return {bytes_.begin(), bytes_.end()}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::span<std::byte> bytes_;
  std::array<iovec, 1> whole_{};
};

// Submits requests on a loop and remembers their answers.
class TestClient final : public DiskClient {
 public:
  explicit TestClient(EventLoop& loop) : loop_(loop) {}

  void finished(DiskRequest& request, int os_errno) override {
    EXPECT_FALSE(submitting_);
    answers_[&request] = os_errno;
    order_.push_back(&request);
    if (on_finished) on_finished(request, os_errno);
  }
  void submit(DiskPort& port, DiskRequest& request) {
    request.client = this;
    answers_.erase(&request);
    submitting_ = true;
    port.submit(request);
    submitting_ = false;
  }
  bool is_finished(const DiskRequest& request) const { return answers_.contains(&request); }
  // Runs the loop until it is finished; its errno, or -1 if nothing happens for long.
  int wait(const DiskRequest& request) {
    while (!is_finished(request)) {
      if (!turn()) return -1;
    }
    return answers_.find(&request)->second;
  }
  int run(DiskPort& port, DiskRequest& request) {
    submit(port, request);
    return wait(request);
  }
  // False: nothing happened for ten seconds. The loop sleeps all that time if nothing wakes it: a call that only starts
  // when the loop turns for another reason is a failure.
  bool turn() {
    const size_t before = order_.size();
    const uint64_t deadline = clock_.now_ns() + 10'000'000'000;
    while (order_.size() == before) {
      const uint64_t now = clock_.now_ns();
      if (now >= deadline) {
        ADD_FAILURE() << "no request finishes";
        return false;
      }
      loop_.run_once(deadline - now);
    }
    return true;
  }
  const std::vector<DiskRequest*>& order() const { return order_; }

  std::function<void(DiskRequest&, int)> on_finished;

 private:
  EventLoop& loop_;
  const MonotonicClock clock_;
  bool submitting_ = false;
  std::map<const DiskRequest*, int> answers_;
  std::vector<DiskRequest*> order_;
};

inline DiskRequest read_request(uint64_t offset, const TestBuffer& into) {
  return {.op = DiskOp::Read, .offset = offset, .bytes = into.bytes().size(), .buffers = into.whole()};
}
inline DiskRequest write_request(uint64_t offset, const TestBuffer& from, bool durable = false) {
  return {
      .op = DiskOp::Write, .offset = offset, .bytes = from.bytes().size(), .buffers = from.whole(), .durable = durable};
}

// Counts calls, makes them shorter and fails them, as the test says.
class TestFaults final : public CallFaults {
 public:
  using Intercept = std::function<bool(DiskCall&)>;
  bool intercept(DiskCall& call) override {
    const std::lock_guard lock(mutex_);
    calls_.push_back(call.kind);
    return on_call && on_call(call);
  }
  std::optional<DirectAlignment> alignment() const override { return asked; }
  size_t count(CallKind kind) const {
    const std::lock_guard lock(mutex_);
    return static_cast<size_t>(std::count(calls_.begin(), calls_.end(), kind));
  }
  std::vector<CallKind> calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

  Intercept on_call;
  std::optional<DirectAlignment> asked;

 private:
  mutable std::mutex mutex_;
  std::vector<CallKind> calls_;
};

}  // namespace strato
