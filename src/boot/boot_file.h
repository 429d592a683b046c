// A kernel or an initrd: an open file, its size when it was opened, and what to call it in an error.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace strato::boot {

class BootFile {
 public:
  // `role` is "kernel" or "initrd"; with the path it makes the name that each error begins with: kernel
  // '/boot/vmlinuz'.
  static Result<BootFile> open(const std::string& path, std::string_view role);
  // For a file that was opened elsewhere; only regular files (and memfds) can be loaded.
  static Result<BootFile> from_fd(UniqueFd fd, std::string name);

  int fd() const { return fd_.get(); }
  const std::string& name() const { return name_; }
  // Asked anew each time, because a reset may find the file replaced or cut.
  Result<uint64_t> size_bytes() const;
  Result<> read_exact(uint64_t offset, std::span<std::byte> out) const;

  // "NAME: what", the form of each error about this file.
  Error error(std::string_view what) const;

 private:
  BootFile(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  UniqueFd fd_;
  std::string name_;
};

}  // namespace strato::boot
