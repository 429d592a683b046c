// Hand-made kernels for tests and fuzz seeds: the smallest files of each format, to be bent by the test.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "base/endian.h"
#include "base/file.h"
#include "boot/boot_file.h"
#include "boot/byte_writer.h"

namespace strato::boot::testing {

inline BootFile memory_file(std::span<const std::byte> bytes, std::string name = "kernel 'k'") {
  UniqueFd fd(::memfd_create("boot-test", MFD_CLOEXEC));
  STRATO_ASSERT(fd.valid() && write_all(fd.get(), bytes, "memfd").has_value());
  Result<BootFile> file = BootFile::from_fd(std::move(fd), std::move(name));
  STRATO_ASSERT(file.has_value());
  return *std::move(file);
}

inline Bytes text_bytes(std::string_view text) {
  const std::span<const std::byte> raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}

template <class T>
Bytes patched(Bytes bytes, size_t offset, const T& value) {
  ByteWriter out(std::move(bytes));
  out.patch(offset, value);
  return out.take();
}

inline Bytes cut(Bytes bytes, size_t size) {
  bytes.resize(size);
  return bytes;
}

// One setup sector, 4096 bytes of code that are all 0xc0, relocatable, runs at 16 MiB in 2 MiB.
inline Bytes bzimage() {
  ByteWriter out(Bytes(2 * 512, std::byte{0}));
  out.patch(0x1f1, uint8_t{1});         // setup_sects
  out.patch(0x1f4, le32(4096 / 16));    // syssize
  out.patch(0x1fe, le16(0xaa55));       // boot_flag
  out.patch(0x200, uint8_t{0xeb});      // jump over the header ...
  out.patch(0x201, uint8_t{0x66});      // ... which ends at 0x268
  out.patch(0x202, le32(0x53726448));   // HdrS
  out.patch(0x206, le16(0x020f));       // version
  out.patch(0x211, uint8_t{1});         // loaded high
  out.patch(0x22c, le32(0x7fff'ffff));  // initrd_addr_max
  out.patch(0x230, le32(0x20'0000));    // kernel_alignment
  out.patch(0x234, uint8_t{1});         // relocatable
  out.patch(0x236, le16(0x3f));         // xloadflags
  out.patch(0x238, le32(2047));         // cmdline_size
  out.patch(0x258, le64(0x100'0000));   // pref_address
  out.patch(0x260, le32(0x20'0000));    // init_size
  out.bytes(Bytes(4096, std::byte{0xc0}));
  return out.take();
}

struct TestSegment {
  uint32_t type = 1;
  uint64_t offset = 0x1000;
  uint64_t vaddr = 0xffff'ffff'8100'0000;
  uint64_t paddr = 0x100'0000;
  uint64_t filesz = 0x1000;
  uint64_t memsz = 0x3000;
  uint64_t align = 0x1000;
};

// A note segment's content: {"Xen", 18, entry}.
inline Bytes pvh_note(uint32_t entry) {
  ByteWriter out;
  out.u32(4).u32(4).u32(18).text("Xen", 4).u32(entry);
  return out.take();
}
inline constexpr uint64_t kNoteOffset = 0x800;
inline TestSegment note_segment() {
  return {.type = 4, .offset = kNoteOffset, .vaddr = 0, .paddr = 0, .filesz = 20, .memsz = 20, .align = 4};
}

// Offsets into ELF headers that tests bend.
inline constexpr size_t kElfType = 16;
inline constexpr size_t kElfMachine = 18;
inline constexpr size_t kElf64Phoff = 32;
inline constexpr size_t kElf64Phentsize = 54;
inline constexpr size_t kElf64Phnum = 56;

inline Bytes finish_elf(ByteWriter out, std::span<const std::byte> note) {
  STRATO_ASSERT(out.size() <= kNoteOffset);
  out.zeros(kNoteOffset - out.size()).bytes(note);
  out.zeros(0x1000 - out.size()).bytes(Bytes(0x1000, std::byte{0xc1}));
  return out.take();
}

// 8192 bytes: headers, the note at 0x800, 0xc1 in the second page.
inline Bytes elf64(uint64_t entry, const std::vector<TestSegment>& segments, std::span<const std::byte> note = {}) {
  ByteWriter out;
  out.text(
         "\x7f"
         "ELF",
         4)
      .u8(2)
      .u8(1)
      .u8(1)
      .zeros(9)
      .u16(2)
      .u16(62)
      .u32(1);
  out.u64(entry).u64(64).u64(0).u32(0).u16(64).u16(56).u16(static_cast<uint16_t>(segments.size())).zeros(6);
  for (const TestSegment& s : segments) {
    out.u32(s.type).u32(7).u64(s.offset).u64(s.vaddr).u64(s.paddr).u64(s.filesz).u64(s.memsz).u64(s.align);
  }
  return finish_elf(std::move(out), note);
}

inline Bytes elf32(uint32_t entry, const std::vector<TestSegment>& segments, std::span<const std::byte> note = {}) {
  ByteWriter out;
  out.text(
         "\x7f"
         "ELF",
         4)
      .u8(1)
      .u8(1)
      .u8(1)
      .zeros(9)
      .u16(2)
      .u16(3)
      .u32(1);
  out.u32(entry).u32(52).u32(0).u32(0).u16(52).u16(32).u16(static_cast<uint16_t>(segments.size())).zeros(6);
  for (const TestSegment& s : segments) {
    out.u32(s.type).u32(static_cast<uint32_t>(s.offset)).u32(static_cast<uint32_t>(s.vaddr));
    out.u32(static_cast<uint32_t>(s.paddr)).u32(static_cast<uint32_t>(s.filesz)).u32(static_cast<uint32_t>(s.memsz));
    out.u32(7).u32(static_cast<uint32_t>(s.align));
  }
  return finish_elf(std::move(out), note);
}

inline Bytes vmlinux() {
  return elf64(0x100'0000, {TestSegment{}});
}
inline Bytes pvh_vmlinux() {
  return elf64(0x100'0000, {TestSegment{}, note_segment()}, pvh_note(0x100'0040));
}

}  // namespace strato::boot::testing
