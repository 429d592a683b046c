"""A file that Debian's kernel has as persistent memory, and what the host sees of it: run by tools/with-kvm as `pmem.py SCENARIO IMAGE`."""
import contextlib
import os
import re
import shutil
import subprocess
import time

import guests
from guests import BOARD, LIMIT, MIB, Vmm, end, perform, run, sparse, start, start_script


def file_system(path, *options):
    """In blocks as large as pages, as DAX wants it."""
    run("mkfs.ext4", "-q", "-F", "-b", "4096", *options, sparse(path, 64 * MIB))
    return path


def memory(path, more=""):
    size = os.path.getsize(path)
    assert size % (2 * MIB) == 0, size
    return ("-object", f"memory-backend-file,id=mem0,mem-path={path},size={size // MIB}M{more}", "-device", "virtio-pmem-device,id=pmem0,memdev=mem0")


def roots(image, folder):
    """ext4 as the root, straight from the host's page cache: written to, private, and read-only."""
    path, tree = folder / "root", folder / "tree"
    tree.mkdir()
    run("mount", "-o", "loop,ro", f"{image}/programs.ext4", tree)
    file_system(path, "-d", tree)
    run("umount", tree)
    # The device cannot say that it is read-only: the guest has to know.
    for more, mode in (("", "rw"), (",share=off", "rw"), (",readonly=on", "ro")):
        text = end(start(image, f"reboot=t strato.end=reboot strato.root=/dev/pmem0,ext4{BOARD.dax},{mode}", *memory(path, more)))
        assert re.search(rf"^root=/dev/pmem0 ext4 {mode}$", text, re.M), re.findall("^root.*", text, re.M)
        assert not BOARD.dax or re.search(r"^root_options=.*\bdax=always\b", text, re.M), re.findall("^root.*", text, re.M)
    print("3 roots")


def do(vmm, step):
    return re.findall(r"([0-9a-f]{32})  /mnt/data", guests.do(vmm, "pmem", step))


def seen_by_host(path, folder):
    """The checksum of the guest's file, as the image has it."""
    done = subprocess.run(["e2fsck", "-fp", path], stdout=subprocess.PIPE, text=True)
    assert done.returncode in (0, 1), done.stdout
    run("debugfs", "-R", f"dump /data {folder}/data", path)
    return run("md5sum", folder / "data").split()[0]


def lasting(image, folder):
    """What the guest has synchronised is in the file when the VM is killed; and a copy of the VM goes on with it."""
    path = file_system(folder / "disk")
    vmm = start_script(image, "pmem.sh", *memory(path))
    vmm.wait_for("pmem: did mount", LIMIT)
    assert BOARD.dax.strip(",") in vmm.text() and "pmem: not mounted" not in vmm.text(), vmm.text()[-2000:]
    written = do(vmm, "write")
    assert len(written) == 1, vmm.text()[-2000:]
    vmm.qmp.command("stop")
    vmm.qmp.command("migrate", uri=f"file:{folder}/saved")
    while (status := vmm.qmp.command("query-migrate").get("status")) not in ("completed", "failed"):
        time.sleep(0.1)
    assert status == "completed", vmm.stderr()
    # Guest RAM, and not the 64 MiB beside it.
    assert os.path.getsize(f"{folder}/saved/memory") == 192 * MIB
    vmm.process.kill()
    vmm.process.wait()
    before = folder / "before"
    shutil.copyfile(path, before)
    assert seen_by_host(before, folder) == written[0]

    copy = Vmm(str(folder), "-incoming", f"file:{folder}/saved", *memory(path), memory_mib=192)
    assert do(copy, "read") == written
    appended = do(copy, "append")
    do(copy, "end")
    end(copy)
    assert appended != written and [seen_by_host(path, folder)] == appended
    print("it lasts")


def cut(image, folder):
    """The host takes the file away: the VM ends, and says which one it was."""
    path = file_system(folder / "disk")
    vmm = start_script(image, "pmem.sh", *memory(path))
    vmm.wait_for("pmem: did mount", LIMIT)
    do(vmm, "write")
    os.truncate(path, 4096)
    with contextlib.suppress(OSError):  # it may have noticed already
        vmm.write(b"read\n")
    assert vmm.wait(LIMIT) == 1, vmm.text()[-2000:]
    assert f"guest memory in the file {path} is gone: it was truncated to 4096 bytes" in vmm.stderr(), vmm.stderr()
    print("ended and named")


if __name__ == "__main__":
    perform(globals())
