"""What the programs that with-kvm runs have in common: a guest with Debian's kernel, its disks, and its end."""
import atexit
import contextlib
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import lost_guest  # noqa: E402
from boards import BOARD  # noqa: E402
from vmm import Vmm  # noqa: E402

LIMIT = 800  # seconds; what takes 30 on a quiet machine took 300 on one with four other beds
MIB = 1 << 20
POOL = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
QUIET = f"console={BOARD.console} quiet panic=-1"
PROMPT = r"# (\x1b\[6n)?$"  # and the shell's question where the cursor is


def run(*argv):
    """What the command printed; it must succeed."""
    return subprocess.run([str(word) for word in argv], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def sparse(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
    return path


class Disks:
    """The options of disks vda, vdb ... in their order."""

    def __init__(self):
        self.options = []

    def add(self, path, drive="", device=""):
        number = len(self.options) // 4
        drive = f"id=drive{number},file={path},if=none" + (f",{drive}" if drive else "")
        device = f"virtio-blk-device,drive=drive{number},id=disk{number}" + (f",{device}" if device else "")
        self.options += ["-drive", drive, "-device", device]


def faulted(vmm):
    """Whether the guest had a triple fault that is not its way to restart (reboot=t), or found its stack broken: see runs.emulator_failed()."""
    if vmm.output is None:
        return False
    text = vmm.text()
    return "triple fault" in vmm.stderr() and "reboot: " not in text or "Kernel panic - not syncing: stack-protector" in text


def leave(vmm):
    """A test that fails leaves its guest, which shall not run on in the way of the others."""
    if faulted(vmm):
        print(f"{lost_guest.SAID}triple fault or broken stack", file=sys.stderr)
    vmm.close()


def start(image, words, *options, smp=1, memory_mib=192, **rest):
    """`words` for the kernel and for tools/bed/guest_init.sh."""
    vmm = Vmm(tempfile.mkdtemp(prefix="strato-"), *options, kernel=f"{image}/{BOARD.kernel}", initrd=f"{image}/initramfs.cpio",
              memory_mib=memory_mib, smp=smp, append=f"{QUIET} {words}", env={"STRATOVIRT_LOG_LEVEL": "info"}, **rest)
    lost_guest.start_watch(vmm.process)
    atexit.register(leave, vmm)
    return vmm


def start_script(image, script, *options, words="", **rest):
    """Init runs nothing but the script, of this folder, and restarts."""
    return start(image, f"reboot=t strato.report=no strato.run=/{script} strato.end=reboot {words}", *options, **rest)


def end(vmm):
    code = vmm.wait(LIMIT)
    said = f"exit code {code}\n{vmm.text()[-3000:]}\n{vmm.stderr()}"
    assert code == 0 and not faulted(vmm), said
    return vmm.text()


def do(vmm, script, step):
    """Tells the guest's script what to do, which says `SCRIPT: did STEP` at its end; what it printed meanwhile."""
    at = len(vmm.bytes())
    vmm.write(f"{step}\n".encode())
    vmm.wait_for(f"{script}: did {step.split()[0]}\r?\n", LIMIT, at)
    return vmm.bytes()[at:].decode(errors="replace")


def poll(condition, what):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def pss(vmm):
    return vmm.memory_kib("Pss") * 1024


def huge_pages(name):
    """What the pool of 2 MiB has of them: nr_hugepages, free_hugepages, resv_hugepages."""
    return int((POOL / name).read_text())


@contextlib.contextmanager
def pool_of_huge_pages(folder, count):
    """A hugetlbfs in the folder, with so many pages of 2 MiB."""
    mount = folder / "huge"
    mount.mkdir()
    run("mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", mount)
    try:
        (POOL / "nr_hugepages").write_text(str(count))
        assert huge_pages("nr_hugepages") == count
        yield mount
    finally:
        run("umount", "-l", mount)
        (POOL / "nr_hugepages").write_text("0")


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(path))
    return peer


class Line:
    """A file descriptor that leads to a console, and somebody who types there."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self._seen = b""

    def write(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self._descriptor, data):]

    def expect(self, pattern):
        """Reads until the pattern is there, beyond what was found before; gives the match."""
        deadline = time.monotonic() + LIMIT
        while not (found := re.search(pattern.encode(), self._seen)):
            ready, _, _ = select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern} has not come, but {self._seen[-2000:]}"
            piece = os.read(self._descriptor, 4096)
            assert piece, f"the end has come before {pattern}, after {self._seen[-2000:]}"
            self._seen += piece
        self._seen = self._seen[found.end():]
        return found


def perform(scenarios):
    """The command line's SCENARIO IMAGE; the function of that name also gets a folder on the bed's disk, which is gone afterwards."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="strato-", dir=os.environ["STRATO_SCRATCH_DISK"]))
    try:
        scenarios[sys.argv[1]](sys.argv[2], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
