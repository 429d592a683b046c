#include "machine/boot_timeline.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"

namespace strato {
namespace {

uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

BootTimeline::BootTimeline() : exec_ns_(clock_ns(CLOCK_MONOTONIC) - clock_ns(CLOCK_PROCESS_CPUTIME_ID)) {
  mark("main");
}

Result<> BootTimeline::write_to(const std::string& path) {
  // Its old content lives until there is something better; see publish().
  const bool existed = ::access(path.c_str(), F_OK) == 0;
  UniqueFd file = STRATO_TRY(open_file(path, O_WRONLY | O_CREAT | O_NOCTTY, "-boot-timeline", 0600));
  MutexLock lock(mutex_);
  file_ = std::move(file);
  if (!existed) unpublished_path_ = path;
  return {};
}

void BootTimeline::publish() {
  MutexLock lock(mutex_);
  if (!file_.valid()) return;
  unpublished_path_.clear();
  published_ = true;
  [[maybe_unused]] const int emptied = ::ftruncate(file_.get(), 0);  // a pipe or terminal has nothing to empty
  write_file();
}

BootTimeline::~BootTimeline() {
  if (!unpublished_path_.empty()) ::unlink(unpublished_path_.c_str());
}

void BootTimeline::mark(std::string_view stage) {
  const uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
  MutexLock lock(mutex_);
  if (std::ranges::find(stages_, stage, &Stage::name) != stages_.end()) return;
  stages_.push_back({std::string(stage), (now_ns - exec_ns_) / 1000});
  // What follows quickly is written with what comes later: a write costs more than a stage.
  if (stage == "first_run" || stage == "kernel_entry" || stage == "userspace") write_file();
}

void BootTimeline::write_file() {
  if (!published_) return;
  std::string text = R"({"unit":"us since exec","stages":[)";
  for (size_t i = 0; i < stages_.size(); ++i) {
    text += fmt::format("{}\n  {{\"name\":\"{}\",\"us\":{}}}", i == 0 ? "" : ",", stages_[i].name,
                        stages_[i].since_exec_us);
  }
  text += "\n]}\n";
  // It only grows, so that overwriting from the start leaves nothing old behind.
  [[maybe_unused]] const ssize_t written = ::pwrite(file_.get(), text.data(), text.size(), 0);
}

}  // namespace strato
