#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace strato {

// When each stage of a start was reached, in µs since exec (-boot-timeline FILE, as JSON). Costs one clock call per
// stage when nobody asked. Threads: any.
class BootTimeline {
 public:
  // To be made first thing in main(). The moment of exec is now less the processor time that the process has used:
  // until here it only ran.
  BootTimeline();
  BootTimeline(const BootTimeline&) = delete;
  BootTimeline& operator=(const BootTimeline&) = delete;
  // A start that failed leaves no file.
  ~BootTimeline();

  // Opens the file, which stays open (a jail has no paths).
  Result<> write_to(const std::string& path) STRATO_EXCLUDES(mutex_);
  // The VM is ready: writes what there is, and from here on what is marked.
  void publish() STRATO_EXCLUDES(mutex_);
  // Only the first mark of a name counts: a restarted guest does not change its first start.
  void mark(std::string_view stage) STRATO_EXCLUDES(mutex_);

 private:
  struct Stage {
    std::string name;
    uint64_t since_exec_us;
  };
  void write_file() STRATO_REQUIRES(mutex_);

  uint64_t exec_ns_;
  Mutex mutex_;
  UniqueFd file_ STRATO_GUARDED_BY(mutex_);
  bool published_ STRATO_GUARDED_BY(mutex_) = false;
  std::string unpublished_path_;  // of a file that we made and have not published; the main thread's
  std::vector<Stage> stages_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato
