#include "migration/saved_machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <span>

#include "base/checked.h"
#include "base/file.h"
#include "state/format.h"

namespace strato {
namespace {

constexpr uint64_t kMaxStateBytes = 64 * kMiB;
constexpr size_t kChunkBytes = 256 * kKiB;
constexpr size_t kPageBytes = 4096;  // grain of the holes, whatever the host's pages are

std::string state_path(const std::string& directory) {
  return directory + "/state";
}
std::string memory_path(const std::string& directory) {
  return directory + "/memory";
}

// Removes the file unless it was renamed into place.
class TemporaryFile {
 public:
  static Result<TemporaryFile> create(std::string final_path) {
    std::string path = final_path + ".new";
    UniqueFd fd = STRATO_TRY(open_file(path, O_RDWR | O_CREAT | O_TRUNC, "snapshot", 0600));
    return TemporaryFile(std::move(path), std::move(final_path), std::move(fd));
  }
  TemporaryFile(TemporaryFile&&) = default;
  TemporaryFile& operator=(TemporaryFile&&) = delete;
  ~TemporaryFile() {
    if (fd_.valid() && !path_.empty()) ::unlink(path_.c_str());
  }

  int fd() const { return fd_.get(); }
  const std::string& name() const { return final_path_; }
  Result<> rename_into_place() {
    if (::rename(path_.c_str(), final_path_.c_str()) != 0) {
      return std::unexpected(Error::from_errno(fmt::format("snapshot '{}'", final_path_)));
    }
    path_.clear();
    return {};
  }

 private:
  TemporaryFile(std::string path, std::string final_path, UniqueFd fd)
      : path_(std::move(path)), final_path_(std::move(final_path)), fd_(std::move(fd)) {}
  std::string path_;
  std::string final_path_;
  UniqueFd fd_;
};

bool is_zero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

Result<> write_at(int fd, uint64_t offset, std::span<const std::byte> data, std::string_view name) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(Error::from_errno(name));
    offset += static_cast<uint64_t>(n);
    data = data.subspan(static_cast<size_t>(n));
  }
  return {};
}

// Writes the runs of pages that are not all zero.
Result<> write_chunk(int fd, uint64_t offset, std::span<const std::byte> chunk, std::string_view name) {
  size_t start = 0;
  while (start < chunk.size()) {
    size_t end = start;
    while (end < chunk.size() && !is_zero(chunk.subspan(end, std::min(kPageBytes, chunk.size() - end)))) {
      end += std::min(kPageBytes, chunk.size() - end);
    }
    STRATO_TRY(write_at(fd, offset + start, chunk.subspan(start, end - start), name));
    start = end + kPageBytes;
  }
  return {};
}

// How much of the hole at this address is left; 0: it is in none.
uint64_t rest_of_hole(std::span<const SavedHole> holes, uint64_t address) {
  const auto after = std::ranges::upper_bound(holes, address, {}, &SavedHole::start);
  if (after == holes.begin()) return 0;
  const SavedHole& hole = *std::prev(after);
  const uint64_t offset = address - hole.start;
  return hole.bytes - std::min(hole.bytes, offset);
}

Result<> write_region(const TemporaryFile& file, const SavedRegion& region, const GuestMemory& memory,
                      std::span<const SavedHole> holes, std::span<std::byte> buffer) {
  for (uint64_t done = 0; done < region.size_bytes;) {
    const uint64_t left = region.size_bytes - done;
    if (const uint64_t skipped = rest_of_hole(holes, region.start + done); skipped != 0) {
      done += std::min(skipped, left);
      continue;
    }
    uint64_t wanted = std::min<uint64_t>(buffer.size(), left);
    const auto next = std::ranges::upper_bound(holes, region.start + done, {}, &SavedHole::start);
    if (next != holes.end()) wanted = std::min(wanted, next->start - (region.start + done));
    const std::span<std::byte> chunk = buffer.first(wanted);
    if (!memory.read_bytes(GuestAddr(region.start + done), chunk)) {
      return std::unexpected(Error::invalid(fmt::format("region {} cannot be read", region.name)));
    }
    STRATO_TRY(write_chunk(file.fd(), region.file_offset + done, chunk, file.name()));
    done += chunk.size();
  }
  return {};
}

std::vector<SavedRegion> list_regions(const GuestMemory& memory) {
  std::vector<SavedRegion> regions;
  uint64_t offset = 0;
  for (const auto& region : memory.regions()) {
    if (region->kind() == RegionKind::Device || region->saving() == RegionSaving::Nothing) continue;
    regions.push_back({region->name(), region->start().raw(), region->size(), offset});
    offset += region->size();
  }
  return regions;
}

Result<> write_memory(const TemporaryFile& file, std::span<const SavedRegion> regions, const GuestMemory& memory,
                      std::span<const SavedHole> holes) {
  std::vector<std::byte> buffer(kChunkBytes);
  uint64_t end = 0;
  for (const SavedRegion& region : regions) {
    STRATO_TRY(write_region(file, region, memory, holes, buffer));
    end = region.file_offset + region.size_bytes;
  }
  if (::ftruncate(file.fd(), static_cast<off_t>(end)) != 0) return std::unexpected(Error::from_errno(file.name()));
  return {};
}

Result<> check_regions(std::span<const SavedRegion> regions, uint64_t file_bytes, const std::string& directory) {
  for (const SavedRegion& region : regions) {
    if (region.file_offset > file_bytes || region.size_bytes > file_bytes - region.file_offset) {
      return std::unexpected(Error::invalid(
          fmt::format("snapshot '{}': {} bytes, but region {} ends at {}", memory_path(directory), file_bytes,
                      region.name, static_cast<unsigned __int128>(region.file_offset) + region.size_bytes)));
    }
  }
  return {};
}

// Before it is opened: a FIFO would be waited for.
Result<> check_regular(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::unexpected(Error::from_errno(fmt::format("snapshot '{}'", path)));
  if (S_ISREG(status.st_mode)) return {};
  return std::unexpected(Error::invalid(fmt::format("snapshot '{}': is not a regular file", path)));
}

template <class T>
Result<> check_equal(std::string_view what, const T& saved, const T& ours) {
  if (saved == ours) return {};
  return std::unexpected(
      Error::invalid(fmt::format("the saved machine has {} {}, this command line {}", what, saved, ours)));
}

}  // namespace

const SavedComponent* SavedMachine::find(std::string_view name) const {
  const auto found = std::ranges::find(components, name, &SavedComponent::name);
  return found == components.end() ? nullptr : &*found;
}

Result<> check_shape(const MachineShape& saved, const MachineShape& ours) {
  STRATO_TRY(check_equal("machine", saved.machine, ours.machine));
  STRATO_TRY(check_equal("architecture", saved.architecture, ours.architecture));
  STRATO_TRY(check_equal("-m bytes", saved.memory_bytes, ours.memory_bytes));
  STRATO_TRY(check_equal("-smp cpus", saved.cpus, ours.cpus));
  STRATO_TRY(check_equal("-smp sockets", saved.sockets, ours.sockets));
  STRATO_TRY(check_equal("-smp dies", saved.dies, ours.dies));
  STRATO_TRY(check_equal("-smp clusters", saved.clusters, ours.clusters));
  STRATO_TRY(check_equal("-smp cores", saved.cores, ours.cores));
  STRATO_TRY(check_equal("-smp threads", saved.threads, ours.threads));
  for (const std::string& name : saved.components) {
    if (std::ranges::find(ours.components, name) == ours.components.end()) {
      return std::unexpected(
          Error::invalid(fmt::format("the saved machine has a {}, this command line has none", name)));
    }
  }
  for (const std::string& name : ours.components) {
    if (std::ranges::find(saved.components, name) == saved.components.end()) {
      return std::unexpected(
          Error::invalid(fmt::format("this command line has a {}, the saved machine has none", name)));
    }
  }
  return {};
}

Result<> write_saved_machine(const std::string& directory, SavedMachine machine, const GuestMemory& memory,
                             std::span<const SavedHole> holes) {
  const bool made = ::mkdir(directory.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) return std::unexpected(Error::from_errno(fmt::format("snapshot '{}'", directory)));
  machine.regions = list_regions(memory);

  TemporaryFile memory_file = STRATO_TRY(TemporaryFile::create(memory_path(directory)));
  STRATO_TRY(write_memory(memory_file, machine.regions, memory, holes));
  TemporaryFile state_file = STRATO_TRY(TemporaryFile::create(state_path(directory)));
  STRATO_TRY(write_all(state_file.fd(), state::to_bytes(machine), state_file.name()));
  // The old state goes first: without it the directory is no saved machine while the two renames are under way.
  ::unlink(state_path(directory).c_str());
  STRATO_TRY(memory_file.rename_into_place());
  return state_file.rename_into_place();
}

Result<OpenedMachine> open_saved_machine(const std::string& directory) {
  STRATO_TRY(check_regular(state_path(directory)));
  STRATO_TRY(check_regular(memory_path(directory)));
  const std::vector<std::byte> bytes = STRATO_TRY(read_file(state_path(directory), kMaxStateBytes, "snapshot"));
  Result<SavedMachine> machine = state::from_bytes<SavedMachine>(bytes);
  if (!machine) {
    return std::unexpected(std::move(machine).error().context(fmt::format("snapshot '{}'", state_path(directory))));
  }
  UniqueFd memory = STRATO_TRY(open_file(memory_path(directory), O_RDONLY, "snapshot"));
  const uint64_t size = STRATO_TRY(file_size(memory.get(), memory_path(directory)));
  STRATO_TRY(check_regions(machine->regions, size, directory));
  return OpenedMachine{*std::move(machine), std::move(memory)};
}

Result<> load_saved_region(const OpenedMachine& opened, const SavedRegion& region, const GuestMemory& memory,
                           std::string_view what) {
  const int fd = opened.memory.get();
  const auto limit = static_cast<off_t>(region.file_offset + region.size_bytes);  // check_regions() has seen it
  for (auto at = static_cast<off_t>(region.file_offset); at < limit;) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};  // holes up to the end
    if (data < 0) return std::unexpected(Error::from_errno(what));
    if (data >= limit) return {};
    const off_t hole = ::lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return std::unexpected(Error::from_errno(what));
    const off_t end = std::min(hole, limit);
    const uint64_t offset = static_cast<uint64_t>(data) - region.file_offset;
    STRATO_TRY(memory.load_from_fd(fd, static_cast<uint64_t>(data), GuestAddr(region.start + offset),
                                   static_cast<uint64_t>(end - data), what));
    at = end;
  }
  return {};
}

}  // namespace strato
