"""The programs of an architecture, for beds and guests: this machine's own, or Debian's, unpacked into the cache and never run here."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from packages import Failure, apts, cache_dir, cache_lock, ensure_programs, find_program, names_in, run, say

MERGED = ("bin", "sbin", "lib")  # links to usr/..., as on Debian's own systems
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/iso-codes")


class Host:
    """This machine's programs."""

    root = None

    def files_of(self, name):
        """(path here, path there) of a program, the libraries it is linked with and their loader."""
        path = find_program(name)
        if not path:
            raise Failure(f"{name}: no such program here")
        return [(file, file) for file in (path, *linked_with(path))]


class Userland:
    """An unpacked one, whose packages' scripts have not run: what counts is its usr."""

    def __init__(self, root, arch):
        self.root = root
        self._folders = [f"usr/lib/{arch.name}-linux-gnu", "usr/lib"]

    def files_of(self, name):
        for folder in ("usr/bin", "usr/sbin"):
            path = self.root / folder / name
            if path.exists():
                break
        else:
            raise Failure(f"{name}: no such program in {self.root}; is its package in the group userland of tools/packages?")
        ensure_programs("bed", "readelf")
        files = {f"/{folder}/{name}": path}
        self._add_libraries(path, files)
        return [(here, there) for there, here in files.items()]

    def _add_libraries(self, path, files):
        facts = run([find_program("readelf"), "--wide", "--program-headers", "--dynamic", path]).decode()
        for loader in re.findall(r"program interpreter: (/[^]]+)]", facts):
            files[loader] = self.root / loader.lstrip("/")
        own = [folder.strip("/") for value in re.findall(r"\(RUNPATH\) .*\[(.+)\]", facts) for folder in value.split(":")]
        for library in re.findall(r"\(NEEDED\) .*\[(.+)\]", facts):
            found = [self.root / folder / library for folder in (*own, *self._folders) if (self.root / folder / library).exists()]
            if not found:
                raise Failure(f"{path} needs {library}, which is not in {self.root}")
            there = f"/{found[0].relative_to(self.root)}"
            if there not in files:
                files[there] = found[0]
                self._add_libraries(found[0], files)


def linked_with(program):
    """The shared libraries and the loader that a program of this machine needs; none for a static one, of which ldd disapproves."""
    output = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    return re.findall(r"(/\S+) \(0x", output)


def of(arch):
    return Host() if arch.is_hosts else fetch(arch)


def fetch(arch):
    """The packages as they were when the cache was filled; remove the cache to get newer ones."""
    names = names_in("userland", f"bed-{arch.name}")
    key = hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
    root = cache_dir() / "userlands" / f"{arch.debian}-{key}"
    with cache_lock(f"userland-{arch.debian}"):
        if not root.exists():
            unpack(arch, names, root)
    return Userland(root, arch)


def unpack(arch, names, root):
    ensure_programs("bed", "busybox")
    apt = next(apts(arch))
    root.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        say(f"downloading {arch.debian} packages for the inside of the bed")
        packages = apt.download_with_needs(names, f"{folder}/packages")
        tree = pathlib.Path(folder, "tree")
        for name in MERGED:
            (tree / "usr" / name).mkdir(parents=True)
            (tree / name).symlink_to(f"usr/{name}")
        (tree / "usr" / "src").mkdir()  # for what the host has there
        say(f"unpacking {len(packages)} packages")
        for package in packages:
            contents = run(["dpkg-deb", "--fsys-tarfile", package])
            run(["tar", "-x", "-C", tree, "--keep-directory-symlink", "--no-same-owner", *(f"--exclude=./{name}" for name in UNUSED)],
                given=contents)
        add_links_to_busybox(tree)
        # What the scripts of Python's packages would have done; without it each start of Python takes many seconds in a bed.
        run([sys.executable, "-m", "compileall", "-q", "-j", "0", "-s", tree, "-p", "/", *tree.glob("usr/lib/python3*")])
        tree.chmod(0o755)
        tree.rename(root)


def add_links_to_busybox(tree):
    """For names that have no program of their own, or one that only a package's script would have linked."""
    for name in run([find_program("busybox"), "--list"]).decode().split():
        if not any(os.path.lexists(tree / "usr" / folder / name) for folder in ("bin", "sbin")):
            (tree / "usr" / "bin" / name).symlink_to("busybox")
