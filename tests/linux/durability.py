"""A guest's fsync means that the bytes are on the host's disk. Run by tools/with-kvm as `durability.py IMAGE DRIVE_OPTIONS`.

The disk is a dm-log-writes device, which records all writes and flushes in order. A file counts as durable once the guest says so;
then a mark goes into the log. Afterwards the disk is made again up to each flush, as if the power had failed right after it: the file
system must be whole, and all files must be there that were durable before the mark that follows."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import log_writes
from guests import LIMIT, Disks, run, start_script

DISK_BYTES = 24 << 20
LOG_BYTES = 256 << 20
FILES = 12

os.environ["DM_DISABLE_UDEV"] = "1"  # there is none in the bed: dmsetup makes the node itself


class LoggedDisk:
    """An ext4 file system on a dm-log-writes device over two loop devices; the log is read once the device is gone."""

    def __init__(self, folder):
        self._name = f"strato{os.getpid()}"
        self.path = f"/dev/mapper/{self._name}"
        self.log = folder / "log"
        self._loops = []
        for path, size in ((folder / "data", DISK_BYTES), (self.log, LOG_BYTES)):
            with open(path, "wb") as file:
                file.truncate(size)
            self._loops.append(run("losetup", "--find", "--show", path))
        run("dmsetup", "create", self._name, "--table", f"0 {DISK_BYTES // 512} log-writes {' '.join(self._loops)}")
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.path)
        self.mark("made")

    def mark(self, text):
        run("dmsetup", "message", self._name, "0", "mark", text)

    def close(self):
        run("dmsetup", "remove", "--retry", self._name)
        for loop in self._loops:
            run("losetup", "--detach", loop)


def write_until_killed(image, drive, disk):
    """Returns the checksum of each file that was durable when the VMM was killed."""
    disks = Disks()
    disks.add(disk.path, drive)
    vmm = start_script(image, "durable.sh", *disks.options)
    sums = {}
    try:
        for number in range(1, FILES + 1):
            found = vmm.wait_for(rf"durable={number} md5=([0-9a-f]+)\r?\n", LIMIT)
            disk.mark(f"durable-{number}")
            sums[number] = found[1].decode()
    finally:
        vmm.signal(signal.SIGKILL)
        vmm.process.wait()
    return sums


def recover(image, flushes):
    """What the next start does with the image: the journal replays, and nothing is broken."""
    done = subprocess.run(["e2fsck", "-fp", image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode in (0, 1), f"after flush {flushes}: e2fsck {done.returncode}: {done.stdout}"


def check_files(image, number, sums):
    for file in range(1, number + 1):
        content = subprocess.run(["debugfs", "-R", f"cat /f{file}", image], check=True, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL).stdout
        seen = subprocess.run(["md5sum"], input=content, check=True, stdout=subprocess.PIPE).stdout.decode().split()[0]
        assert seen == sums[file], f"f{file} was durable, and is not in the image of the flush before the mark {number}"


def check_log(folder, sums):
    """Returns the number of flushes and of power cuts tried."""
    log = log_writes.Log(folder / "log")
    image, cut = folder / "image", folder / "cut"
    with open(image, "wb") as file:
        file.truncate(DISK_BYTES)
    shutil.copyfile(image, cut)
    made, flushes, cuts, pending = False, 0, 0, []
    with open(image, "r+b", buffering=0) as file:
        for entry in log.entries():
            if entry.mark.startswith("durable-"):
                check_files(cut, int(entry.mark.split("-")[1]), sums)
                cuts += 1
            made = made or entry.mark == "made"
            pending.append(entry)
            # A flush or FUA makes durable what was finished before it; what only lies in `pending` is lost.
            if entry.flags & (log_writes.FLUSH | log_writes.FUA):
                for each in pending:
                    log.apply(each, file.fileno())
                pending.clear()
                flushes += made
                if made:
                    shutil.copyfile(image, cut)
                    recover(cut, flushes)
    log.close()
    return flushes, cuts


def main(image, drive):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="strato-", dir=os.environ["STRATO_SCRATCH_DISK"]))
    disk = LoggedDisk(folder)
    try:
        sums = write_until_killed(image, drive, disk)
    finally:
        disk.close()
    flushes, cuts = check_log(folder, sums)
    assert cuts == FILES and flushes >= FILES, f"{flushes} flushes, {cuts} power cuts"
    print(f"{flushes} flushes, {cuts} power cuts: nothing lost")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
