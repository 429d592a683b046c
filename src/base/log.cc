#include "base/log.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <array>

namespace strato {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"error", "warn", "info", "debug", "trace"};
constexpr std::array<std::string_view, 5> kTags = {"ERROR", "WARN", "INFO", "DEBUG", "TRACE"};

struct Sink {
  std::atomic<int> fd{STDERR_FILENO};
  std::atomic<LogLevel> level{LogLevel::Warn};
};
constinit Sink sink;

uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<LogLevel>(i);
  }
  return std::unexpected(
      Error::invalid(fmt::format("log level '{}' is none of error, warn, info, debug, trace", name)));
}

void set_log_level(LogLevel level) {
  sink.level.store(level, std::memory_order_relaxed);
}

Result<> open_log_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
  if (fd < 0) return std::unexpected(Error::from_errno(fmt::format("log file '{}'", path)));
  const int old = sink.fd.exchange(fd);
  if (old != STDERR_FILENO) ::close(old);
  return {};
}

int log_descriptor() {
  return sink.fd.load(std::memory_order_relaxed);
}

bool log_enabled(LogLevel level) {
  return level <= sink.level.load(std::memory_order_relaxed);
}

void log_line(LogLevel level, std::string_view text) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  ::gmtime_r(&now.tv_sec, &utc);
  // "X:INFO: " is the form that Kata's driver recognises (contract/callers.md).
  const std::string line = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z stratovirt:{}: {}\n",
                                       utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                                       utc.tm_sec, now.tv_nsec / 1000, kTags[static_cast<size_t>(level)], text);
  [[maybe_unused]] const ssize_t written = ::write(log_descriptor(), line.data(), line.size());
}

bool LogLimiter::admit(uint64_t now_ns, uint32_t& swallowed) {
  uint64_t start = window_start_ns_.load(std::memory_order_relaxed);
  if (start == 0 || now_ns - start >= kWindowNs) {
    // One thread opens the new window; who loses the race counts in it.
    if (window_start_ns_.compare_exchange_strong(start, now_ns, std::memory_order_relaxed)) {
      in_window_.store(0, std::memory_order_relaxed);
    }
  }
  if (in_window_.fetch_add(1, std::memory_order_relaxed) >= kBurst) {
    swallowed_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  swallowed = swallowed_.exchange(0, std::memory_order_relaxed);
  return true;
}

bool log_guest_admit(LogLimiter& limiter, uint32_t& swallowed) {
  return limiter.admit(monotonic_ns(), swallowed);
}

void log_guest_admitted(LogLevel level, uint32_t swallowed, std::string_view text) {
  if (swallowed == 0) {
    log_line(level, text);
  } else {
    log_line(level, fmt::format("{} ({} such lines not shown)", text, swallowed));
  }
}

}  // namespace strato
