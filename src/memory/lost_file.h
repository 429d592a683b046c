// A file behind guest memory that others cut short, or whose disk fails: an access to what is gone is SIGBUS where we
// make it and an error where KVM does. Nothing can be put in its place, so that the VM ends; here is what says why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"

namespace strato {

class GuestMemory;

// While it lives: a SIGBUS within these bytes of ours ends the process with status 1 and a line in the log that names
// the file. Any other SIGBUS is what it was before. Threads: any.
class [[nodiscard]] LostFileWatch {
 public:
  // `name` outlives the watch. Error: too many files are watched.
  static Result<LostFileWatch> create(const std::byte* start, uint64_t size_bytes, const char* name);

  LostFileWatch() = default;
  LostFileWatch(LostFileWatch&& other) noexcept : entry_(std::exchange(other.entry_, kNone)) {}
  LostFileWatch& operator=(LostFileWatch&& other) noexcept;
  ~LostFileWatch() { release(); }

  // What else is to happen before the process ends so; async-signal-safe. Once, before threads.
  static void before_end(void (*call)());

 private:
  static constexpr size_t kNone = SIZE_MAX;
  explicit LostFileWatch(size_t entry) : entry_(entry) {}
  void release();

  size_t entry_ = kNone;
};

// Which file behind this memory is shorter than what is mapped of it; none: no one is. It asks the host.
std::optional<std::string> describe_cut_file(const GuestMemory& memory);
// After an access to guest memory that the kernel made for us has failed: which file it was, and what is wrong with it.
// None: no file is behind this memory.
std::optional<std::string> describe_lost_file(const GuestMemory& memory);

}  // namespace strato
