"""Debian kernels: fetched once per flavour and architecture, in the forms that machines boot, with the modules indexed."""

import gzip
import json
import lzma
import pathlib
import re
import shutil
import struct
import subprocess
import zlib

from packages import Failure, cache_dir, cache_lock, ensure_programs, find_newest, find_program, run, say, unpack

# flavour: (prefix and pattern of the package's name before the architecture, suite asked when the system's own suites lack it)
FLAVOURS = {
    "generic": ("linux-image-6.1.", r"linux-image-6\.1\.0-\d+", None),
    "cloud": ("linux-image-6.1.", r"linux-image-6\.1\.0-\d+-cloud", None),
    "backports": ("linux-image-6.12.", r"linux-image-6\.12\.[0-9+a-z.]+-cloud", "bookworm-backports"),
}


class Kernel:
    def __init__(self, folder, arch):
        self.folder = folder
        self.shipped = next(folder.glob("boot/vmlinuz-*"))
        self.version = self.shipped.name.removeprefix("vmlinuz-")
        # By the name it has in a guest's image: as it is shipped, and the other form.
        names = {"x86_64": ("bzImage", "vmlinux"), "aarch64": ("Image", "Image.gz")}[arch.name]
        self.images = {names[0]: self.shipped, names[1]: folder / "boot" / names[1]}
        self.quickest = self.images["vmlinux" if "vmlinux" in names else "Image"]
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


def fetch(flavour, arch):
    """The newest kernel of a flavour as it was when the cache was filled; remove the cache to get a newer one."""
    ensure_programs("bed", "modprobe", "lz4", "zstd")
    folder = cache_dir() / "kernels"
    folder.mkdir(exist_ok=True)
    choice = folder / f"{flavour}-{arch.debian}.json"
    with cache_lock(f"kernel-{flavour}-{arch.debian}"):
        if choice.exists():
            tree = folder / json.loads(choice.read_text())["tree"]
            if tree.exists():
                kernel = Kernel(tree, arch)
                if all(image.exists() for image in kernel.images.values()):
                    return kernel
        prefix, pattern, suite = FLAVOURS[flavour]
        apt, name, version = find_newest(arch, prefix, rf"{pattern}-{arch.debian}(-unsigned)?", suite)
        tree = folder / f"{name}_{version}"
        if not tree.exists():
            unpack(apt, name, version, tree)
        prepare(tree, arch)
        choice.write_text(json.dumps({"tree": tree.name, "package": name, "version": version}) + "\n")
        return Kernel(tree, arch)


def prepare(tree, arch):
    """Indexes the modules and makes the other form of the kernel."""
    if not (tree / "lib").exists():  # newer packages ship usr/lib only
        (tree / "lib").symlink_to("usr/lib")
    kernel = Kernel(tree, arch)
    say(f"unpacking kernel {kernel.version}")
    shutil.rmtree(tree / "usr" / "share", ignore_errors=True)
    run([find_program("depmod"), "-b", tree, kernel.version])
    shipped = kernel.shipped.read_bytes()
    name, path = list(kernel.images.items())[1]
    if name == "vmlinux":
        image = extract_vmlinux(shipped)
        if not has_pvh_entry(image):
            raise Failure(f"{kernel.shipped}: its vmlinux has no PVH entry")
    else:
        if shipped[0x38:0x3C] != b"ARM\x64":  # Documentation/arm64/booting.rst
            raise Failure(f"{kernel.shipped}: not an arm64 Image")
        image = gzip.compress(shipped, 6, mtime=0)
    partial = path.with_suffix(".partial")
    partial.write_bytes(image)
    partial.rename(path)


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
