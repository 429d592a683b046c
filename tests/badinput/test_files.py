"""Kernel, initrd and what they need: each row names the file and what was found."""
import gzip
import os
import struct

import pytest
from refusal import refused
from tiny_guest import BASE, X86_HALT, X86_POWER_OFF, pvh_image
from vmm import architecture, forms, guest

MIB = 1 << 20


def elf(**changes):
    """A PVH kernel with values of the ELF header replaced."""
    data = bytearray(pvh_image(X86_POWER_OFF + bytes(4096)))
    for offset, value in changes.values():
        data[offset:offset + len(value)] = value
    return bytes(data)


def good():
    """A kernel with a header: a bzImage, or an arm64 Image."""
    with open(guest(forms("hello")[-1]), "rb") as file:
        return file.read()


def bent(offset, value):
    data = bytearray(good())
    data[offset:offset + len(value)] = value
    return bytes(data)


# Content of the kernel file; what must stand in the message beside its name.
KERNELS = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"not a kernel\n" * 100, "text"),
    "script": (lambda: b"#!/bin/sh\nexit 0\n" * 100, "script"),
    "zeros": (lambda: bytes(8192), "zero"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(4096), "gzip"),
    "initramfs": (lambda: b"070701" + b"0" * 4096, "cpio"),
}
X86_64_KERNELS = {
    "arm64 kernel": (lambda: bytes([0x90]) * 0x38 + b"ARM\x64" + bytes([0x90]) * 4096, "arm64"),
    "ELF ident only": (lambda: elf()[:12], "truncated"),
    "ELF cut in its program headers": (lambda: elf()[:100], "truncated"),
    "ELF cut in its segment": (lambda: elf()[:300], "truncated"),
    "ELF for arm64": (lambda: elf(machine=(18, struct.pack("<H", 183))), "AArch64"),
    "ELF object file": (lambda: elf(kind=(16, struct.pack("<H", 1))), "type 1"),
    "ELF with headers elsewhere": (lambda: elf(offset=(32, struct.pack("<Q", 1 << 62))), "program headers"),
    "ELF without segments": (lambda: elf(count=(56, struct.pack("<H", 0))), "program headers"),
    "ELF that loads where the tables are": (lambda: pvh_image(X86_HALT + bytes(8192), entry=0x7000, base=0x7000), "boot tables"),
    "ELF that loads above RAM": (lambda: pvh_image(X86_HALT, entry=0x7000_0000, base=0x7000_0000), "RAM"),
    "ELF whose entry is elsewhere": (lambda: pvh_image(X86_HALT, entry=BASE + 0x100000), "entry"),
    "bzImage cut in its header": (lambda: good()[:0x220], "bzImage"),
    "bzImage cut in its code": (lambda: good()[:1100], "bzImage"),
    "bzImage of an old protocol": (lambda: bent(0x206, b"\x02\x02"), "2.02"),
    "bzImage without 64-bit entry": (lambda: bent(0x236, b"\0\0"), "64-bit"),
    "bzImage that unpacks beyond RAM": (lambda: bent(0x260, struct.pack("<I", 0x7fff0000)), "RAM"),
    "flat image bigger than RAM": (lambda: bytes([0x90]) * (40 * MIB), "RAM"),
}
AARCH64_KERNELS = {
    "x86 kernel": (lambda: bytes([0x90]) * 0x202 + b"HdrS" + bytes([0x90]) * 4096, "an x86 kernel (bzImage)"),
    "ELF for x86": (elf, "an ELF file for x86-64 (machine 62)"),
    "ELF for arm64": (lambda: elf(machine=(18, struct.pack("<H", 183))), "an arm64 Image"),
    "noise": (lambda: bytes([0x90]) * 4096, "arm64 Image"),
    "Image cut in its header": (lambda: good()[:60], "truncated"),
    "Image of an old Linux": (lambda: bent(0x10, bytes(8)), "before 3.17"),
    "Image of no endianness of ours": (lambda: bent(0x18, b"\x0b"), "big-endian"),
    "Image bigger than RAM": (lambda: bent(0x10, struct.pack("<Q", 40 * MIB)), "too big for the guest's RAM"),
    "Image bigger than any RAM": (lambda: bent(0x10, struct.pack("<Q", 1 << 62)), "too big for any RAM"),
    "Image cut and packed": (lambda: gzip.compress(good())[:-9], "gzip data truncated"),
    "Image packed twice": (lambda: gzip.compress(gzip.compress(good())), "in it gzip data"),
    "zboot of zstd": (lambda: b"MZ\0\0zimg" + bytes(16) + b"zstd" + bytes(4096), "zstd"),
}
KERNELS |= {"x86_64": X86_64_KERNELS, "aarch64": AARCH64_KERNELS}[architecture()]


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_that_is_none(tmp_path, name):
    make, text = KERNELS[name]
    (tmp_path / "kernel").write_bytes(make())
    refused(tmp_path, ["-m", "32", "-kernel", "kernel", "-qmp", "unix:q.sock,server,nowait", "-boot-timeline", "timeline", "-serial",
                       "file,path=serial", "-daemonize", "-pidfile", "pid"], "kernel 'kernel'", text)


@pytest.mark.parametrize("option", ["kernel", "initrd"])
@pytest.mark.parametrize("kind, text", [("missing", "No such file"), ("folder", "directory"), ("fifo", "regular file"), ("loop", "ymbolic"),
                                        ("below a file", "directory"), ("device", "regular file")])
def test_a_file_that_can_not_be_read(tmp_path, option, kind, text):
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "below a file":
        path.write_text("x")
        path = path / "below"
    files = {"kernel": guest("hello"), option: str(path)}
    refused(tmp_path, ["-m", "32", *(word for name, file in files.items() for word in (f"-{name}", file))], f"{option} '{path}'", text)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_kernel_that_we_may_not_read(tmp_path):
    (tmp_path / "kernel").write_bytes(good())
    (tmp_path / "kernel").chmod(0)
    refused(tmp_path, ["-kernel", "kernel"], "kernel 'kernel'", "ermission")


@pytest.mark.parametrize("size, text", [(0, "empty"), (40 * MIB, "RAM")])
def test_an_initrd_of_a_bad_size(tmp_path, size, text):
    with open(tmp_path / "initrd", "wb") as file:
        file.truncate(size)
    refused(tmp_path, ["-m", "32", "-kernel", guest("hello"), "-initrd", "initrd"], "initrd 'initrd'", text)


def test_a_command_line_longer_than_a_kernel_takes(tmp_path):
    refused(tmp_path, ["-m", "32", "-kernel", guest("hello"), "-append", "word " * 3000], "command line")


def test_ram_too_small_for_the_kernel(tmp_path):
    little = {"x86_64": "16", "aarch64": "2"}[architecture()]
    refused(tmp_path, ["-m", little, "-kernel", guest("report")], "kernel '", "RAM")


# ACPI: what goes into the tables comes from these options.
@pytest.mark.parametrize("words, text", [
    (["-machine", "microvm,acpi=force"], "acpi=force"),
    (["-machine", "microvm,acpi"], "acpi"),
    (["-machine", "microvm,acpi=on,acpi=on"], "acpi"),
    (["-machine", "microvm,pit=never"], "pit=never"),
    (["-machine", "microvm,virtio-cmdline=x"], "virtio-cmdline=x"),
    (["-smp", "256"], "-smp"),
    (["-smp", "254,sockets=253"], "-smp"),
    (["-smp", "2,threads=3"], "-smp"),
    (["-smp", "1,dies=0"], "-smp"),
    (["-smbios", "type=1"], "-smbios"),
    (["-numa", "node,nodeid=0"], "-numa"),
    (["-m", "1024G"], "-m"),
])
def test_what_the_tables_can_not_describe(tmp_path, words, text):
    refused(tmp_path, ["-kernel", guest("hello"), "-boot-timeline", "timeline", *words], text)
