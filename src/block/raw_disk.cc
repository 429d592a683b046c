#include "block/raw_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/assert.h"
#include "base/file.h"
#include "block/direct_io.h"
#include "block/raw_file.h"
#include "block/raw_port.h"

namespace strato {
namespace {

Error trouble(const RawFile& file, std::string_view what) {
  return Error::invalid(fmt::format("disk '{}': {}", file.path, what));
}

Error no_direct_io(const std::string& path) {
  return Error::unsupported(fmt::format("disk '{}': its file system has no direct I/O; use direct=off", path));
}

Result<UniqueFd> open_image(RawDisk::Args& args) {
  if (args.fd.valid()) return std::move(args.fd);
  // O_NONBLOCK: the name of a pipe must not hold us up.
  const int flags = (args.read_only ? O_RDONLY : O_RDWR) | (args.direct ? O_DIRECT : 0) | O_NONBLOCK;
  Result<UniqueFd> fd = open_file(args.path, flags, "disk");
  if (fd) return fd;
  const int os_errno = fd.error().os_errno();
  if (!args.read_only && (os_errno == EACCES || os_errno == EROFS)) {
    return std::unexpected(Error::from_errno(
        fmt::format("disk '{}': it cannot be written to (readonly=on reads it only)", args.path), os_errno));
  }
  if (args.direct && os_errno == EINVAL) return std::unexpected(no_direct_io(args.path));
  return fd;
}

// As we want it, whoever opened it: without O_APPEND, which turns each write into one at the end, and O_NONBLOCK, which
// io_uring takes for a wish to fail rather than wait.
Result<> set_flags(int fd, const RawDisk::Args& args) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return std::unexpected(Error::from_errno(fmt::format("disk '{}'", args.path)));
  if (!args.read_only && (flags & O_ACCMODE) != O_RDWR) {
    return std::unexpected(
        Error::invalid(fmt::format("disk '{}': its file is open for reading only; use readonly=on", args.path)));
  }
  const int wanted = (flags & ~(O_DIRECT | O_APPEND | O_NONBLOCK)) | (args.direct ? O_DIRECT : 0);
  if (::fcntl(fd, F_SETFL, wanted) == 0) return {};
  if (args.direct && errno == EINVAL) return std::unexpected(no_direct_io(args.path));
  return std::unexpected(Error::from_errno(fmt::format("disk '{}'", args.path)));
}

Result<uint64_t> size_of(const RawFile& file) {
  if (file.block_device) {
    uint64_t bytes = 0;
    if (::ioctl(file.fd.get(), BLKGETSIZE64, &bytes) != 0) {
      return std::unexpected(Error::from_errno(fmt::format("size of disk '{}'", file.path)));
    }
    return bytes;
  }
  return file_size(file.fd.get(), fmt::format("size of disk '{}'", file.path));
}

Result<uint64_t> capacity_of(const RawFile& file) {
  const uint64_t bytes = STRATO_TRY(size_of(file));
  if (bytes == 0) return std::unexpected(trouble(file, "it is empty (0 bytes); a disk has at least one sector"));
  const uint64_t capacity = (bytes + kSectorBytes - 1) & ~(kSectorBytes - 1);
  if (file.direct && !file.limits.read_only && (capacity & (file.limits.request_alignment - 1)) != 0) {
    // The last block could only be written together with what lies behind the end of the file.
    return std::unexpected(trouble(
        file,
        fmt::format("its size of {} bytes is no multiple of the {} bytes that direct I/O needs here; make it one, "
                    "or use direct=off",
                    bytes, file.limits.request_alignment)));
  }
  return capacity;
}

// A number of /sys/dev/block/MAJOR:MINOR/queue; a partition has it one level up.
std::optional<uint64_t> queue_attribute(dev_t device, std::string_view name) {
  for (const char* const level : {"", "../"}) {
    const std::string path = fmt::format("/sys/dev/block/{}:{}/{}queue/{}", major(device), minor(device), level, name);
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    char text[32];
    const ssize_t bytes = fd.valid() ? ::read(fd.get(), text, sizeof(text)) : -1;
    uint64_t number = 0;
    if (bytes > 0 && std::from_chars(text, text + bytes, number).ec == std::errc()) return number;
  }
  return {};
}

// Punching behind the end of a file changes nothing, and tells whether its file system can.
bool can_punch(int fd, uint64_t size) {
  return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size + 4095) & ~off_t{4095},
                     4096) == 0;
}

void learn_block_device(RawFile& file, dev_t device) {
  int logical = 0;
  if (::ioctl(file.fd.get(), BLKSSZGET, &logical) == 0 && std::has_single_bit(static_cast<unsigned>(logical))) {
    file.logical_block_bytes = static_cast<uint32_t>(logical);
  }
  unsigned physical = 0;
  if (::ioctl(file.fd.get(), BLKPBSZGET, &physical) == 0 && std::has_single_bit(physical)) {
    file.limits.block_bytes = std::max(physical, file.logical_block_bytes);
  }
  if (!file.discard) return;
  file.limits.can_discard = queue_attribute(device, "discard_max_bytes").value_or(1) != 0;
  file.limits.can_unmap_zeroes = file.limits.can_discard;
  const auto granularity = static_cast<uint32_t>(queue_attribute(device, "discard_granularity").value_or(0));
  file.limits.discard_alignment = std::max(std::bit_floor(granularity), file.logical_block_bytes);
}

void learn_file(RawFile& file, const struct stat& info) {
  // Network file systems name a transfer size here: no medium writes that much at once.
  const auto block = std::bit_floor(static_cast<uint32_t>(std::clamp<blksize_t>(info.st_blksize, 512, 4096)));
  file.limits.block_bytes = block;
  if (!file.discard || file.limits.read_only) return;
  file.limits.can_discard = can_punch(file.fd.get(), static_cast<uint64_t>(info.st_size));
  file.limits.can_unmap_zeroes = file.limits.can_discard;
  file.limits.discard_alignment = block;
}

// Fills in what is known of an open file.
Result<> learn(RawFile& file) {
  struct stat info{};
  if (::fstat(file.fd.get(), &info) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("disk '{}'", file.path)));
  }
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return std::unexpected(trouble(file, "it is neither a regular file nor a block device"));
  }
  file.block_device = S_ISBLK(info.st_mode);
  if (file.direct) {
    DirectAlignment alignment =
        STRATO_TRY(direct_alignment(DirectFile::of(file.fd.get(), file.block_device), file.path, file.page_bytes));
    if (file.faults != nullptr) alignment = file.faults->alignment().value_or(alignment);
    file.limits.request_alignment = alignment.disk_bytes;
    file.limits.memory_alignment = alignment.memory_bytes;
    file.zeros = STRATO_TRY(ZeroBlock::create(std::max(alignment.disk_bytes, alignment.memory_bytes)));
  }
  if (file.block_device) {
    learn_block_device(file, info.st_rdev);
  } else {
    learn_file(file, info);
  }
  file.capacity_bytes = STRATO_TRY(capacity_of(file));
  return {};
}

}  // namespace

RawDisk::RawDisk(DiskEngines& engines, DiskEngine engine, std::unique_ptr<RawFile> file, Locking locking)
    : engines_(engines),
      engine_(engine),
      file_(std::move(file)),
      lock_(file_->fd.get(), file_->path, file_->limits.read_only, locking) {}

RawDisk::~RawDisk() = default;

Result<std::unique_ptr<RawDisk>> RawDisk::open(DiskEngines& engines, Args args) {
  if (args.engine == DiskEngine::Native && !args.direct) {
    return std::unexpected(Error::invalid(fmt::format(
        "disk '{}': aio=native needs direct=on (without it Linux AIO waits in the submission)", args.path)));
  }
  Result<> allowed = engines.probe(args.engine);
  if (!allowed) return std::unexpected(std::move(allowed).error().context(fmt::format("disk '{}'", args.path)));

  auto file = std::make_unique<RawFile>();
  file->fd = STRATO_TRY(open_image(args));
  STRATO_TRY(set_flags(file->fd.get(), args));
  file->path = std::move(args.path);
  file->limits.read_only = args.read_only;
  file->direct = args.direct;
  file->discard = args.discard;
  file->detect_zeroes = args.detect_zeroes;
  file->page_bytes = args.page_bytes;
  file->faults = args.faults;
  STRATO_TRY(learn(*file));

  std::unique_ptr<RawDisk> disk(new RawDisk(engines, args.engine, std::move(file), args.locking));
  if (args.active) STRATO_TRY(disk->lock_.lock(args.lock_patience));
  return disk;
}

uint64_t RawDisk::capacity_bytes() const {
  return file_->capacity_bytes;
}

const DiskLimits& RawDisk::limits() const {
  return file_->limits;
}

Result<std::unique_ptr<DiskPort>> RawDisk::attach(EventLoop& loop) {
  STRATO_ASSERT(loop.in_loop_thread());
  std::shared_ptr<CallQueue> queue = STRATO_TRY(engines_.queue(loop, engine_));
  std::shared_ptr<WorkerQueue> workers = STRATO_TRY(engines_.worker_queue(loop));
  return std::make_unique<RawPort>(*file_, loop, std::move(queue), std::move(workers));
}

Result<> RawDisk::resize(uint64_t bytes) {
  if (file_->limits.read_only) return std::unexpected(trouble(*file_, "it is read-only"));
  const uint64_t unit = std::max<uint64_t>(file_->limits.request_alignment, kSectorBytes);
  if (bytes == 0 || bytes % unit != 0) {
    return std::unexpected(
        trouble(*file_, fmt::format("a size of {} bytes: it must be a multiple of {}", bytes, unit)));
  }
  if (file_->block_device) {
    STRATO_TRY(refresh_capacity());
    if (bytes == capacity_bytes()) return {};
    return std::unexpected(
        trouble(*file_, fmt::format("a block device of {} bytes cannot be given another size here", capacity_bytes())));
  }
  if (::ftruncate(file_->fd.get(), static_cast<off_t>(bytes)) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("resizing disk '{}' to {} bytes", file_->path, bytes)));
  }
  file_->capacity_bytes = bytes;
  return {};
}

Result<> RawDisk::refresh_capacity() {
  file_->capacity_bytes = STRATO_TRY(capacity_of(*file_));
  return {};
}

Result<> RawDisk::activate() {
  // No waiting here: vCPUs may be running.
  STRATO_TRY(lock_.lock(std::chrono::milliseconds(0)));
  return {};
}

void RawDisk::inactivate() {
  lock_.unlock();
}

}  // namespace strato
