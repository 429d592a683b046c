// The log: one sink of the process (stderr or the file of -D), never stdout. The one piece of process-wide state that
// we allow ourselves (docs/decisions/0004-no-registry.md), because a message must get out from anywhere, also on the
// way down. Threads: any. Each line is one write(2).
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace strato {

enum class LogLevel : uint8_t { Error, Warn, Info, Debug, Trace };

// "error", "warn", "info", "debug", "trace".
Result<LogLevel> parse_log_level(std::string_view name);

void set_log_level(LogLevel level);
// Sends the log to `path` (appending, mode 0640) instead of stderr.
Result<> open_log_file(const std::string& path);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view text);
// Where lines go, for a signal handler.
int log_descriptor();

template <class... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_line(level, fmt::format(format, std::forward<Args>(args)...));
}

// Counts what it lets through: at most `kBurst` lines in each `kWindowNs`, and says then how many were swallowed.
class LogLimiter {
 public:
  static constexpr uint32_t kBurst = 10;
  static constexpr uint64_t kWindowNs = 5'000'000'000;

  // True when the line may be written; `swallowed` then holds the number of lines lost since the last one that was
  // written.
  bool admit(uint64_t now_ns, uint32_t& swallowed);

 private:
  std::atomic<uint64_t> window_start_ns_{0};
  std::atomic<uint32_t> in_window_{0};
  std::atomic<uint32_t> swallowed_{0};
};

bool log_guest_admit(LogLimiter& limiter, uint32_t& swallowed);
void log_guest_admitted(LogLevel level, uint32_t swallowed, std::string_view text);

// For everything that a guest can trigger: limited for each place in the code.
#define log_guest(level, ...)                                                                          \
  do {                                                                                                 \
    static ::strato::LogLimiter strato_limiter_;                                                       \
    uint32_t strato_swallowed_ = 0;                                                                    \
    if (::strato::log_enabled(level) && ::strato::log_guest_admit(strato_limiter_, strato_swallowed_)) \
      ::strato::log_guest_admitted(level, strato_swallowed_, fmt::format(__VA_ARGS__));                \
  } while (false)

}  // namespace strato
