"""tools/guest-image: a kernel and an initramfs for a guest, made once for each request."""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

import kernel
from initramfs import Initramfs
from packages import Failure, cache_dir, ensure_programs, say

HERE = pathlib.Path(__file__).resolve().parent
ACPI_PROGRAMS = {"acpidump", "iasl"}
DISK_MIB = 128
DESCRIPTION = """\
Makes DIR/bzImage, DIR/vmlinux (the same kernel as ELF with a PVH entry), DIR/initramfs.cpio (busybox and the modules asked
for, with what they need) and DIR/image.json (what it is). What the default init reports and which words of the kernel's
command line it obeys stands in tools/bed/guest_init.sh. The same request is answered from a cache, at once."""


def words(text):
    return [word for word in text.split(",") if word]


def pair(text):
    source, colon, target = text.partition(":")
    if not (source and colon and target):
        raise argparse.ArgumentTypeError(f"{text}: want SOURCE:TARGET")
    return source, target


def parse(argv):
    parser = argparse.ArgumentParser(prog="guest-image", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=sorted(kernel.FLAVOURS), default="cloud", help="Debian's 6.1 cloud kernel (default), "
                        "6.12 for clouds from backports, or the generic 6.1")
    parser.add_argument("--modules", metavar="M1,M2", type=words, default=[], help="kernel modules that init loads, in this order")
    parser.add_argument("--init", metavar="FILE", default=HERE / "guest_init.sh", help="an init in place of the default one")
    parser.add_argument("--files", metavar="SRC:DST", type=pair, nargs="+", action="extend", default=[], help="files or folders to add")
    parser.add_argument("--with", metavar="P1,P2", dest="programs", type=words, default=[],
                        help="programs of this machine to add with their libraries, such as lscpu, acpidump, iasl")
    parser.add_argument("--disk-with", metavar="P1,P2", type=words, default=[],
                        help="also make DIR/programs.ext4 with these programs of this machine, their libraries and busybox: too large to "
                        "unpack at each start; a guest mounts and enters it, or has it as its root (strato.root=/dev/vda,ext4)")
    parser.add_argument("--out", metavar="DIR", required=True)
    return parser.parse_args(argv)


def make_initramfs(options, linux):
    ensure_programs("acpi", *ACPI_PROGRAMS.intersection(options.programs))
    image = Initramfs()
    image.busybox()
    image.outb()
    for folder in ("proc", "sys", "dev", "tmp"):
        image.folder(folder)
    image.device("dev/console", 5, 1)
    image.modules(linux, options.modules)
    for name in options.programs:
        image.host_program(name)
    for source, target in options.files:
        image.tree(source, target)
    image.file("init", pathlib.Path(options.init).read_bytes(), 0o755)
    return image.archive()


def make_disk(options, out):
    disk = Initramfs()
    disk.busybox()
    for folder in ("proc", "sys", "dev", "tmp"):
        disk.folder(folder)
    for name in options.disk_with:
        disk.host_program(name)
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
    linux = kernel.fetch(options.kernel)
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    place(linux.bzimage, out / "bzImage")
    place(linux.vmlinux, out / "vmlinux")
    place(cached(make_initramfs(options, linux)), out / "initramfs.cpio")
    if options.disk_with:
        make_disk(options, out)
    facts = {"kernel": linux.version, "flavour": options.kernel, "modules": options.modules, "programs": options.programs}
    (out / "image.json").write_text(json.dumps(facts, indent=2) + "\n")
    say(f"{out}: Linux {linux.version}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failure, OSError) as failure:
        print(f"guest-image: {failure}", file=sys.stderr)
        sys.exit(1)
