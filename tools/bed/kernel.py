"""Debian kernels: fetched once per flavour, with the ELF vmlinux cut out of the bzImage and the modules indexed."""

import json
import lzma
import pathlib
import re
import shutil
import struct
import subprocess
import zlib

from packages import Failure, cache_dir, cache_lock, ensure_programs, find_newest, find_program, run, say, unpack

# flavour: (prefix and pattern of the package's name, suite asked when the system's own suites lack it)
FLAVOURS = {
    "generic": ("linux-image-6.1.", r"linux-image-6\.1\.0-\d+-amd64(-unsigned)?", None),
    "cloud": ("linux-image-6.1.", r"linux-image-6\.1\.0-\d+-cloud-amd64(-unsigned)?", None),
    "backports": ("linux-image-6.12.", r"linux-image-6\.12\.[0-9+a-z.]+-cloud-amd64(-unsigned)?", "bookworm-backports"),
}


class Kernel:
    def __init__(self, folder):
        self.folder = folder
        self.bzimage = next(folder.glob("boot/vmlinuz-*"))
        self.vmlinux = folder / "boot" / "vmlinux"
        self.version = self.bzimage.name.removeprefix("vmlinuz-")
        self.modules = folder / "lib" / "modules" / self.version

    def load_order(self, names):
        """The files of the modules and of what they need, in the order of loading; built-in ones are left out."""
        files = []
        for name in names:
            command = [find_program("modprobe"), "-d", self.folder, "-S", self.version, "--show-depends", name]
            for line in run(command).decode().splitlines():
                words = line.split()
                if words[0] == "insmod" and words[1] not in files:
                    files.append(words[1])
        return [pathlib.Path(file) for file in files]


def fetch(flavour):
    """The newest kernel of a flavour as it was when the cache was filled; remove the cache to get a newer one."""
    ensure_programs("bed", "modprobe", "lz4", "zstd")
    folder = cache_dir() / "kernels"
    folder.mkdir(exist_ok=True)
    choice = folder / f"{flavour}.json"
    with cache_lock(f"kernel-{flavour}"):
        if choice.exists():
            tree = folder / json.loads(choice.read_text())["tree"]
            if (tree / "boot" / "vmlinux").exists():
                return Kernel(tree)
        prefix, pattern, suite = FLAVOURS[flavour]
        apt, name, version = find_newest(prefix, pattern, suite)
        tree = folder / f"{name}_{version}"
        if not tree.exists():
            unpack(apt, name, version, tree)
        prepare(tree)
        choice.write_text(json.dumps({"tree": tree.name, "package": name, "version": version}) + "\n")
        return Kernel(tree)


def prepare(tree):
    """Indexes the modules and cuts the vmlinux out."""
    if not (tree / "lib").exists():  # newer packages ship usr/lib only
        (tree / "lib").symlink_to("usr/lib")
    kernel = Kernel(tree)
    say(f"unpacking kernel {kernel.version}")
    shutil.rmtree(tree / "usr" / "share", ignore_errors=True)
    run([find_program("depmod"), "-b", tree, kernel.version])
    vmlinux = extract_vmlinux(kernel.bzimage.read_bytes())
    if not has_pvh_entry(vmlinux):
        raise Failure(f"{kernel.bzimage}: its vmlinux has no PVH entry")
    partial = kernel.vmlinux.with_suffix(".partial")
    partial.write_bytes(vmlinux)
    partial.rename(kernel.vmlinux)


def extract_vmlinux(image):
    """The ELF kernel inside a bzImage (Linux x86 boot protocol, payload_offset and payload_length of 2.08)."""
    if image[0x202:0x206] != b"HdrS":
        raise Failure("not a bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start:start + length - 4]  # the last four bytes are the unpacked size
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x02\x21\x4c\x18"):
        return filter_through(["lz4", "-dc"], payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return filter_through(["zstd", "-dcq"], payload)
    raise Failure(f"bzImage payload of an unknown kind: {payload[:6].hex()}")


def filter_through(argv, data):
    done = subprocess.run(argv, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if not done.stdout.startswith(b"\x7fELF"):
        raise Failure(f"`{' '.join(argv)}` gave no ELF file: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def has_pvh_entry(elf):
    """Whether a PT_NOTE segment holds XEN_ELFNOTE_PHYS32_ENTRY (name Xen, type 18)."""
    (phoff,) = struct.unpack_from("<Q", elf, 0x20)
    size, count = struct.unpack_from("<HH", elf, 0x36)
    for index in range(count):
        kind, _flags, offset, _va, _pa, filesz = struct.unpack_from("<IIQQQQ", elf, phoff + index * size)
        if kind == 4 and re.search(rb"\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0", elf[offset:offset + filesz]):
            return True
    return False
