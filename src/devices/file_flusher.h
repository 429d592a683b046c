#pragma once

#include <optional>
#include <string>

#include "base/mutex.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "devices/virtio_pmem.h"

namespace strato::virtio {

// Flushes a file on a thread of its own, which the first flush starts.
class FileFlusher final : public PmemFlusher {
 public:
  // `path` is for messages.
  FileFlusher(UniqueFd file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
  ~FileFlusher() override;  // waits for a flush that is under way

  void flush(Ended ended) override STRATO_EXCLUDES(mutex_);

 private:
  Result<> flush_now() const;
  void run() STRATO_EXCLUDES(mutex_);

  const UniqueFd file_;
  const std::string path_;
  Mutex mutex_;
  CondVar changed_;
  Ended wanted_ STRATO_GUARDED_BY(mutex_);
  bool stopping_ STRATO_GUARDED_BY(mutex_) = false;
  Thread thread_;  // of the loop that flushes
};

}  // namespace strato::virtio
