#include "memory/lost_file.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/mutex.h"
#include "memory/guest_memory.h"

namespace strato {
namespace {

constexpr size_t kMaxFiles = 64;

// `size` says whether it is in use: the others are written before it and read after it.
struct Entry {
  std::atomic<uint64_t> size{0};
  std::atomic<uint64_t> start{0};
  std::atomic<const char*> name{nullptr};
};

// A signal handler finds nothing but what is global.
struct Watched {
  std::array<Entry, kMaxFiles> entries{};
  std::atomic<void (*)()> before_end{nullptr};
  Mutex mutex;  // who changes entries
  bool installed STRATO_GUARDED_BY(mutex) = false;
  struct sigaction before STRATO_GUARDED_BY(mutex) {};
};
constinit Watched watched;

void write_word(const char* word) {
  [[maybe_unused]] const ssize_t written = ::write(log_descriptor(), word, std::strlen(word));
}

// Only what signal-safety(7) allows.
void on_bus_error(int number, siginfo_t* info, void* /*context*/) {
  const auto address = reinterpret_cast<uint64_t>(info->si_addr);
  for (const Entry& entry : watched.entries) {
    const uint64_t size = entry.size.load(std::memory_order_acquire);
    if (address - entry.start.load(std::memory_order_relaxed) >= size) continue;
    write_word("stratovirt: error: guest memory in the file ");
    write_word(entry.name.load(std::memory_order_relaxed));
    write_word(" is gone: the file was truncated, or its disk fails\n");
    if (void (*call)() = watched.before_end.load()) call();
    ::_exit(1);
  }
  // Not ours: the instruction that is repeated now meets whoever was there before.
  ::sigaction(number, &watched.before, nullptr);
}

void install() STRATO_REQUIRES(watched.mutex) {
  if (std::exchange(watched.installed, true)) return;
  struct sigaction ours{};
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGBUS, &ours, &watched.before);
}

}  // namespace

Result<LostFileWatch> LostFileWatch::create(const std::byte* start, uint64_t size_bytes, const char* name) {
  MutexLock lock(watched.mutex);
  for (size_t i = 0; i < kMaxFiles; ++i) {
    Entry& entry = watched.entries[i];
    if (entry.size.load(std::memory_order_relaxed) != 0) continue;
    install();
    entry.start.store(reinterpret_cast<uint64_t>(start), std::memory_order_relaxed);
    entry.name.store(name, std::memory_order_relaxed);
    entry.size.store(size_bytes, std::memory_order_release);
    return LostFileWatch(i);
  }
  return std::unexpected(
      Error::unsupported(fmt::format("guest memory can be in {} pieces of files at most", kMaxFiles)));
}

LostFileWatch& LostFileWatch::operator=(LostFileWatch&& other) noexcept {
  if (this != &other) {
    release();
    entry_ = std::exchange(other.entry_, kNone);
  }
  return *this;
}

void LostFileWatch::release() {
  if (entry_ == kNone) return;
  MutexLock lock(watched.mutex);
  watched.entries[entry_].size.store(0, std::memory_order_release);
  entry_ = kNone;
}

void LostFileWatch::before_end(void (*call)()) {
  watched.before_end.store(call);
}

std::optional<std::string> describe_cut_file(const GuestMemory& memory) {
  for (const auto& region : memory.regions()) {
    if (region->file_name().empty()) continue;
    struct stat status{};
    if (::fstat(region->fd(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    const auto bytes = static_cast<uint64_t>(status.st_size);
    const uint64_t mapped = region->fd_offset() + region->size();
    if (bytes >= mapped) continue;
    return fmt::format("guest memory in the file {} is gone: it was truncated to {} bytes, of which {} are mapped",
                       region->file_name(), bytes, mapped);
  }
  return std::nullopt;
}

std::optional<std::string> describe_lost_file(const GuestMemory& memory) {
  if (std::optional<std::string> cut = describe_cut_file(memory)) return cut;
  std::string names;
  for (const auto& region : memory.regions()) {
    if (region->file_name().empty()) continue;
    if (!names.empty()) names += ", ";
    names += region->file_name();
  }
  if (names.empty()) return std::nullopt;
  return fmt::format("guest memory cannot be reached any more, which is in the file {}", names);
}

}  // namespace strato
