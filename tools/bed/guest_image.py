"""tools/guest-image: a kernel and an initramfs for a guest, made once for each request."""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

import arch
import kernel
from initramfs import Initramfs
from packages import Failure, cache_dir, ensure_programs, say

HERE = pathlib.Path(__file__).resolve().parent
ACPI_PROGRAMS = {"acpidump", "iasl"}
DISK_MIB = 128
DESCRIPTION = """\
Makes the kernel, as DIR/bzImage and DIR/vmlinux (the same as ELF with a PVH entry), on aarch64 as DIR/Image and DIR/Image.gz;
DIR/initramfs.cpio (busybox and the modules asked for, with what they need) and DIR/image.json (what it is). What the default
init reports and which words of the kernel's command line it obeys stands in tools/bed/guest_init.sh. The same request is
answered from a cache, at once."""


def words(text):
    return [word for word in text.split(",") if word]


def pair(text):
    source, colon, target = text.partition(":")
    if not (source and colon and target):
        raise argparse.ArgumentTypeError(f"{text}: want SOURCE:TARGET")
    return source, target


def parse(argv):
    parser = argparse.ArgumentParser(prog="guest-image", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=sorted(arch.ARCHES), default=arch.host().name, help="the guest's architecture (default: this machine's)")
    parser.add_argument("--kernel", choices=sorted(kernel.FLAVOURS), default="cloud", help="Debian's 6.1 cloud kernel (default), "
                        "6.12 for clouds from backports, or the generic 6.1")
    parser.add_argument("--modules", metavar="M1,M2", type=words, default=[], help="kernel modules that init loads, in this order")
    parser.add_argument("--init", metavar="FILE", default=HERE / "guest_init.sh", help="an init in place of the default one")
    parser.add_argument("--files", metavar="SRC:DST", type=pair, nargs="+", action="extend", default=[], help="files or folders to add")
    parser.add_argument("--with", metavar="P1,P2", dest="programs", type=words, default=[],
                        help="programs to add with their libraries, such as lscpu, acpidump, iasl: this machine's, or of another "
                        "architecture those of the group userland of tools/packages")
    parser.add_argument("--disk-with", metavar="P1,P2", type=words, default=[],
                        help="also make DIR/programs.ext4 with such programs, their libraries and busybox: too large to "
                        "unpack at each start; a guest mounts and enters it, or has it as its root (strato.root=/dev/vda,ext4)")
    parser.add_argument("--out", metavar="DIR", required=True)
    options = parser.parse_args(argv)
    options.arch = arch.ARCHES[options.arch]
    return options


def make_initramfs(options, linux):
    if options.arch.is_hosts:
        ensure_programs("acpi", *ACPI_PROGRAMS.intersection(options.programs))
    image = Initramfs(options.arch)
    image.busybox()
    image.mark()
    for folder in ("proc", "sys", "dev", "tmp"):
        image.folder(folder)
    image.device("dev/console", 5, 1)
    image.modules(linux, options.modules)
    for name in options.programs:
        image.program(name)
    for source, target in options.files:
        image.tree(source, target)
    image.file("init", pathlib.Path(options.init).read_bytes(), 0o755)
    return image.archive()


def make_disk(options, out):
    disk = Initramfs(options.arch)
    disk.busybox()
    for folder in ("proc", "sys", "dev", "tmp"):
        disk.folder(folder)
    for name in options.disk_with:
        disk.program(name)
    disk.file("init", pathlib.Path(options.init).read_bytes(), 0o755)
    partial = out / f"programs.{os.getpid()}.partial"
    disk.file_system(partial, DISK_MIB)
    partial.rename(out / "programs.ext4")


def cached(archive):
    """The archive as a file of the cache, named by its content."""
    folder = cache_dir() / "initramfs"
    folder.mkdir(exist_ok=True)
    path = folder / f"{hashlib.sha256(archive).hexdigest()}.cpio"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(archive)
        os.chmod(file.name, 0o444)
        os.rename(file.name, path)
    return path


def place(source, target):
    """A hard link where possible, so that images cost no space; the files are read-only for that reason."""
    if target.exists() and target.samefile(source):
        return
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        os.link(source, partial)
    except OSError:
        shutil.copy(source, partial)
    partial.rename(target)


def main(argv):
    options = parse(argv)
    linux = kernel.fetch(options.kernel, options.arch)
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, path in linux.images.items():
        place(path, out / name)
    place(cached(make_initramfs(options, linux)), out / "initramfs.cpio")
    if options.disk_with:
        make_disk(options, out)
    facts = {"arch": options.arch.name, "kernel": linux.version, "flavour": options.kernel, "modules": options.modules, "programs": options.programs}
    (out / "image.json").write_text(json.dumps(facts, indent=2) + "\n")
    say(f"{out}: Linux {linux.version}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failure, OSError) as failure:
        print(f"guest-image: {failure}", file=sys.stderr)
        sys.exit(1)
