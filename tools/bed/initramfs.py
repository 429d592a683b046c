"""An initramfs, written as an uncompressed newc archive: nothing to unpack is what starts fastest on a slow CPU."""

import lzma
import os
import pathlib
import re
import stat
import tempfile

import userland
from packages import Failure, ensure_programs, find_program, run

HERE = pathlib.Path(__file__).resolve().parent
MARK_FLAGS = ["-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-Wall", "-Wextra",
              "-Werror", "-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-s"]


class Initramfs:
    """Files by archive path (no leading slash); parents are made by themselves."""

    def __init__(self, arch):
        self._arch = arch
        self._programs = userland.of(arch)
        self._entries = {}  # path: (mode, data, (major, minor))

    def folder(self, path, mode=0o755):
        self._add(path, stat.S_IFDIR | mode, b"")

    def file(self, path, data, mode=0o644):
        self._add(path, stat.S_IFREG | mode, data)

    def link(self, path, target):
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path, major, minor):
        self._add(path, stat.S_IFCHR | 0o600, b"", (major, minor))

    def _add(self, path, mode, data, device=(0, 0)):
        path = os.path.normpath(path).lstrip("/")
        parent = os.path.dirname(path)
        if parent and parent not in self._entries:
            self.folder(parent)
        self._entries[path] = (mode, data, device)

    def archive(self):
        parts = []
        for inode, (path, (mode, data, device)) in enumerate(self._entries.items(), start=1):
            parts.append(_record(inode, path, mode, data, device))
        parts.append(_record(0, "TRAILER!!!", 0, b"", (0, 0)))
        return b"".join(parts)

    def file_system(self, path, mebibytes):
        """The same files as an ext4 image."""
        ensure_programs("bed", "mkfs.ext4")
        with tempfile.TemporaryDirectory() as folder:
            for name, (mode, data, _) in self._entries.items():
                target = pathlib.Path(folder, name)
                if stat.S_ISDIR(mode):
                    target.mkdir()
                elif stat.S_ISLNK(mode):
                    target.symlink_to(data.decode())
                elif stat.S_ISREG(mode):
                    target.write_bytes(data)
                    target.chmod(stat.S_IMODE(mode))
            run([find_program("mkfs.ext4"), "-q", "-F", "-d", folder, path, f"{mebibytes}M"])

    def busybox(self):
        """busybox-static under all its names."""
        ensure_programs("bed", "busybox")
        files = self._programs.files_of("busybox")
        source = files[0][0]
        if len(files) > 1:
            raise Failure(f"{source} is not the static busybox; install busybox-static")
        self.file("bin/busybox", pathlib.Path(source).read_bytes(), 0o755)
        # This machine's busybox knows the names also of another architecture's, which it cannot run.
        for name in run([find_program("busybox"), "--list-full"]).decode().split():
            if name != "bin/busybox":
                self.link(name, "/bin/busybox")

    def mark(self):
        """Our own mark.c, as /bin/mark."""
        with tempfile.TemporaryDirectory() as folder:
            run([self._arch.compiler(), *MARK_FLAGS, "-o", f"{folder}/mark", HERE / "mark.c"])
            self.file("bin/mark", pathlib.Path(folder, "mark").read_bytes(), 0o755)

    def modules(self, kernel, names, folder="modules"):
        """The modules, and the order to load them in as the file `order` of the same folder."""
        order = []
        for file in kernel.load_order(names):
            data = file.read_bytes()
            if file.suffix == ".xz":
                data = lzma.decompress(data)
            name = re.sub(r"\.ko(\.\w+)?$", ".ko", file.name)
            self.file(f"{folder}/{name}", data)
            order.append(name)
        self.file(f"{folder}/order", "".join(f"{name}\n" for name in order).encode())

    def tree(self, source, target):
        """A file, link or folder of the host."""
        source = pathlib.Path(source)
        if source.is_dir():
            self.folder(target)
            for child in sorted(source.iterdir()):
                self.tree(child, f"{target}/{child.name}")
        elif source.is_file():
            self.file(target, source.read_bytes(), stat.S_IMODE(source.stat().st_mode))
        else:
            raise Failure(f"{source}: no such file or folder")

    def program(self, name):
        """A program with the libraries it is linked with, all at the paths they have in their system."""
        for here, there in self._programs.files_of(name):
            self.tree(here, there)


def _record(inode, path, mode, data, device):
    name = path.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return _padded(head) + _padded(data)


def _padded(data):
    return data + bytes(-len(data) % 4)
