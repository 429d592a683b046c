#include "chardev/file_chardev.h"

#include <fcntl.h>

#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "chardev/stream_chardev.h"

namespace strato {
namespace {

class NullChardev : public Chardev {
 public:
  size_t write(std::span<const std::byte> data) override { return data.size(); }
  void attach(ChardevHandler* /*handler*/) override {}
  void resume_input() override {}
  bool connected() const override { return true; }
  std::string address() const override { return "null"; }
};

class LogChardev final : public NullChardev {
 public:
  explicit LogChardev(std::string name) : name_(std::move(name)) {}

  size_t write(std::span<const std::byte> data) override {
    constexpr size_t kMaxLineBytes = 1024;
    MutexLock lock(mutex_);
    for (const std::byte byte : data) {
      const char c = static_cast<char>(byte);
      const bool ends = c == '\n';
      if (!ends && c != '\r') line_.push_back(c >= ' ' || c == '\t' ? c : '?');
      if (!ends && line_.size() < kMaxLineBytes) continue;
      log(LogLevel::Info, "{}: {}", name_, line_);  // all of them: that is what was asked for
      line_.clear();
    }
    return data.size();
  }
  std::string address() const override { return "log"; }

 private:
  const std::string name_;
  Mutex mutex_;
  std::string line_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace

Result<std::unique_ptr<Chardev>> open_file_chardev(EventLoop& loop, const std::string& path) {
  UniqueFd fd =
      STRATO_TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NONBLOCK | O_NOCTTY, "chardev file"));
  std::shared_ptr<ByteFd> out = STRATO_TRY(ByteFd::own(std::move(fd)));
  auto chardev = std::make_unique<StreamChardev>(loop, "file", StreamChardev::Hooks{});
  STRATO_TRY(chardev->open(nullptr, std::move(out)));
  return chardev;
}

std::unique_ptr<Chardev> make_null_chardev() {
  return std::make_unique<NullChardev>();
}

std::unique_ptr<Chardev> make_log_chardev(std::string name) {
  return std::make_unique<LogChardev>(std::move(name));
}

}  // namespace strato
