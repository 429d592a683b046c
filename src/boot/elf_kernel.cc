#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/checked.h"
#include "base/endian.h"
#include "boot/kernel_image.h"

namespace strato::boot {
namespace {

constexpr uint8_t kClass32 = 1;
constexpr uint8_t kClass64 = 2;
constexpr uint8_t kLittleEndian = 1;
constexpr uint16_t kTypeExecutable = 2;
constexpr uint16_t kTypeShared = 3;
constexpr uint16_t kMachine386 = 3;
constexpr uint16_t kMachineX86_64 = 62;
constexpr uint32_t kLoad = 1;
constexpr uint32_t kInterpreter = 3;
constexpr uint32_t kNote = 4;
constexpr size_t kMaxProgramHeaders = 128;
constexpr uint64_t kMaxNoteBytes = 64 * kKiB;
constexpr uint32_t kXenPhys32Entry = 18;

template <class Word>
struct ElfHeader {
  uint8_t ident[16];
  le16 type, machine;
  le32 version;
  Word entry, phoff, shoff;
  le32 flags;
  le16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
static_assert(sizeof(ElfHeader<le32>) == 52 && sizeof(ElfHeader<le64>) == 64);

struct ProgramHeader32 {
  le32 type, offset, vaddr, paddr, filesz, memsz, flags, align;
};
struct ProgramHeader64 {
  le32 type, flags;
  le64 offset, vaddr, paddr, filesz, memsz, align;
};
static_assert(sizeof(ProgramHeader32) == 32 && sizeof(ProgramHeader64) == 56);

struct NoteHeader {
  le32 name_bytes, desc_bytes, type;
};

// Either class in host integers.
struct ElfFile {
  uint8_t elf_class = 0;
  uint16_t type = 0;
  uint64_t entry = 0;
  struct Segment {
    uint32_t type;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
  };
  std::vector<Segment> segments;
};

template <class Header, class ProgramHeader>
Result<ElfFile> read_headers(const BootFile& file, uint64_t size_bytes, std::span<const std::byte> head) {
  if (head.size() < sizeof(Header)) {
    return std::unexpected(
        file.error(fmt::format("ELF file truncated: {} bytes, the header alone has {}", size_bytes, sizeof(Header))));
  }
  Header header;
  std::memcpy(&header, head.data(), sizeof(header));
  const uint16_t machine = header.machine.get();
  const bool is_64_bit = header.ident[4] == kClass64;
  if (machine != kMachineX86_64 && (is_64_bit || machine != kMachine386)) {
    return std::unexpected(file.error(fmt::format("is an ELF{} file for {} (machine {}), not for x86",
                                                  is_64_bit ? 64 : 32, elf_machine_name(machine), machine)));
  }
  const size_t count = header.phnum.get();
  if (count == 0) return std::unexpected(file.error("ELF file without program headers: an object file, not a kernel"));
  if (count > kMaxProgramHeaders) {
    return std::unexpected(file.error(
        fmt::format("ELF file with {} program headers, at most {} are accepted", count, kMaxProgramHeaders)));
  }
  if (header.phentsize.get() != sizeof(ProgramHeader)) {
    return std::unexpected(file.error(
        fmt::format("ELF program headers of {} bytes, not {}", header.phentsize.get(), sizeof(ProgramHeader))));
  }
  const uint64_t offset = header.phoff.get();
  const uint64_t table_bytes = count * sizeof(ProgramHeader);
  if (offset > size_bytes || table_bytes > size_bytes - offset) {
    return std::unexpected(file.error(fmt::format(
        "ELF file truncated: {} bytes of program headers at {:#x}, the file has {}", table_bytes, offset, size_bytes)));
  }
  std::vector<ProgramHeader> table(count);
  STRATO_TRY(file.read_exact(offset, std::as_writable_bytes(std::span(table))));

  ElfFile elf{.elf_class = header.ident[4], .type = header.type.get(), .entry = header.entry.get(), .segments = {}};
  for (const ProgramHeader& p : table) {
    elf.segments.push_back({.type = p.type.get(),
                            .offset = p.offset.get(),
                            .vaddr = p.vaddr.get(),
                            .paddr = p.paddr.get(),
                            .filesz = p.filesz.get(),
                            .memsz = p.memsz.get(),
                            .align = p.align.get()});
  }
  return elf;
}

// Finds desc of the note {"Xen", kXenPhys32Entry} in one PT_NOTE segment.
Result<std::optional<uint64_t>> find_pvh_entry(const BootFile& file, std::span<const std::byte> notes, uint64_t align) {
  const uint64_t padding = align == 8 ? 8 : 4;
  while (notes.size() >= sizeof(NoteHeader)) {
    NoteHeader note;
    std::memcpy(&note, notes.data(), sizeof(note));
    // 32-bit fields: these sums cannot wrap.
    const uint64_t name_len = note.name_bytes.get();
    const uint64_t desc_len = note.desc_bytes.get();
    const uint64_t desc_at = align_down(sizeof(note) + name_len + padding - 1, padding);
    if (desc_at > notes.size() || desc_len > notes.size() - desc_at) {
      return std::unexpected(
          file.error(fmt::format("malformed ELF note: a name of {} and a description of {} bytes, {} are there",
                                 name_len, desc_len, notes.size())));
    }
    constexpr std::string_view kXen{"Xen\0", 4};
    const auto name = notes.subspan(sizeof(note), std::min<uint64_t>(name_len, notes.size() - sizeof(note)));
    if (note.type.get() == kXenPhys32Entry && std::ranges::equal(name, std::as_bytes(std::span(kXen)))) {
      le64 entry = 0;
      if (desc_len != 4 && desc_len != 8) {
        return std::unexpected(file.error(fmt::format("PVH note of {} bytes, not 4 or 8", desc_len)));
      }
      std::memcpy(&entry, notes.data() + desc_at, desc_len);
      return entry.get();
    }
    notes = notes.subspan(std::min<uint64_t>(align_down(desc_at + desc_len + padding - 1, padding), notes.size()));
  }
  return std::nullopt;
}

Result<std::optional<uint64_t>> read_pvh_entry(const BootFile& file, uint64_t size_bytes, const ElfFile& elf) {
  for (const ElfFile::Segment& s : elf.segments) {
    if (s.type != kNote) continue;
    if (s.filesz > kMaxNoteBytes) {
      return std::unexpected(
          file.error(fmt::format("{} bytes of ELF notes, at most {} are accepted", s.filesz, kMaxNoteBytes)));
    }
    if (s.offset > size_bytes || s.filesz > size_bytes - s.offset) {
      return std::unexpected(file.error(fmt::format("ELF file truncated: {} bytes of notes at {:#x}, the file has {}",
                                                    s.filesz, s.offset, size_bytes)));
    }
    std::vector<std::byte> notes(s.filesz);
    STRATO_TRY(file.read_exact(s.offset, notes));
    std::optional<uint64_t> entry = STRATO_TRY(find_pvh_entry(file, notes, s.align));
    if (entry) return entry;
  }
  return std::nullopt;
}

Result<> add_segment(const BootFile& file, uint64_t size_bytes, size_t index, const ElfFile::Segment& s,
                     KernelImage& image) {
  if (s.memsz < s.filesz) {
    return std::unexpected(file.error(
        fmt::format("ELF segment {}: {} bytes in the file, but only {} in memory", index, s.filesz, s.memsz)));
  }
  if (s.offset > size_bytes || s.filesz > size_bytes - s.offset) {
    return std::unexpected(
        file.error(fmt::format("ELF file truncated: segment {} has {} bytes at {:#x}, the file has {}", index, s.filesz,
                               s.offset, size_bytes)));
  }
  const std::optional<uint64_t> end = checked_add(s.paddr, s.memsz);
  if (!end) {
    return std::unexpected(
        file.error(fmt::format("ELF segment {}: {:#x} bytes at {:#x} wrap around", index, s.memsz, s.paddr)));
  }
  image.segments.push_back(
      {.file_offset = s.offset, .address = s.paddr, .file_bytes = s.filesz, .memory_bytes = s.memsz});
  image.memory_end = std::max(image.memory_end, *end);
  return {};
}

// Linux's own entry is physical; other linkers give the virtual address.
std::optional<uint64_t> physical_entry(const ElfFile& elf, uint64_t entry) {
  for (const ElfFile::Segment& s : elf.segments) {
    if (s.type == kLoad && entry >= s.paddr && entry - s.paddr < s.memsz) return entry;
  }
  for (const ElfFile::Segment& s : elf.segments) {
    if (s.type == kLoad && entry >= s.vaddr && entry - s.vaddr < s.memsz) return s.paddr + (entry - s.vaddr);
  }
  return std::nullopt;
}

Result<> choose_entry(const BootFile& file, uint64_t size_bytes, const ElfFile& elf, KernelImage& image) {
  const std::optional<uint64_t> pvh = STRATO_TRY(read_pvh_entry(file, size_bytes, elf));
  image.format = pvh ? KernelFormat::Pvh : KernelFormat::Elf64;
  if (!pvh && elf.elf_class == kClass32) {
    return std::unexpected(file.error("is an ELF32 file without a PVH entry note"));
  }
  if (!pvh && elf.type == kTypeShared) {
    return std::unexpected(file.error("is a position-independent ELF program without a PVH entry note, not a kernel"));
  }
  const std::optional<uint64_t> entry = physical_entry(elf, pvh.value_or(elf.entry));
  const bool above_4_gib = pvh && entry && *entry > UINT32_MAX;  // where the 32-bit mode of PVH does not reach
  if (!entry || above_4_gib) {
    return std::unexpected(
        file.error(fmt::format("ELF file whose {} {:#x} lies {}", pvh ? "PVH entry" : "entry point",
                               pvh.value_or(elf.entry), above_4_gib ? "above 4 GiB" : "in none of its segments")));
  }
  image.entry = *entry;
  return {};
}

}  // namespace

std::string_view elf_machine_name(uint16_t machine) {
  switch (machine) {
    case kMachine386:
      return "i386";
    case 8:
      return "MIPS";
    case 20:
      return "PowerPC";
    case 21:
      return "PowerPC64";
    case 22:
      return "S/390";
    case 40:
      return "ARM";
    case kMachineX86_64:
      return "x86-64";
    case 183:
      return "AArch64";
    case 243:
      return "RISC-V";
    case 258:
      return "LoongArch";
    default:
      return "an unknown machine";
  }
}

Result<KernelImage> probe_elf(const BootFile& file, uint64_t size_bytes, std::span<const std::byte> head) {
  constexpr size_t kIdentBytes = 16;
  if (head.size() < kIdentBytes) {
    return std::unexpected(file.error(fmt::format("ELF file truncated: {} bytes", size_bytes)));
  }
  const auto elf_class = std::to_integer<uint8_t>(head[4]);
  const auto byte_order = std::to_integer<uint8_t>(head[5]);
  if (elf_class != kClass32 && elf_class != kClass64) {
    return std::unexpected(file.error(fmt::format("ELF file of unknown class {}", elf_class)));
  }
  if (byte_order != kLittleEndian) {
    return std::unexpected(
        file.error(fmt::format("is a big-endian ELF file (byte order {}), not for x86", byte_order)));
  }
  const ElfFile elf =
      STRATO_TRY(elf_class == kClass64 ? (read_headers<ElfHeader<le64>, ProgramHeader64>(file, size_bytes, head))
                                       : (read_headers<ElfHeader<le32>, ProgramHeader32>(file, size_bytes, head)));
  if (elf.type != kTypeExecutable && elf.type != kTypeShared) {
    return std::unexpected(file.error(fmt::format("is an ELF file of type {}, not an executable", elf.type)));
  }

  KernelImage image;
  for (size_t i = 0; i < elf.segments.size(); ++i) {
    const ElfFile::Segment& segment = elf.segments[i];
    if (segment.type == kInterpreter) {
      return std::unexpected(file.error("is an ELF program for a dynamic loader, not a kernel"));
    }
    if (segment.type != kLoad || segment.memsz == 0) continue;
    STRATO_TRY(add_segment(file, size_bytes, i, segment, image));
  }
  if (image.segments.empty()) return std::unexpected(file.error("ELF file without a segment to load"));
  STRATO_TRY(choose_entry(file, size_bytes, elf, image));
  return image;
}

}  // namespace strato::boot
