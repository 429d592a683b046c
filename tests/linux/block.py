"""What Debian's kernel does with virtio-blk disks, and what the host sees of it: run by tools/with-kvm as `block.py SCENARIO IMAGE`."""
import os
import re
import shutil
import signal
import subprocess
import time

from guests import LIMIT, MIB, Disks, end, perform, run, sparse, start, start_script


def verify(image, folder):
    """Each engine, with and without O_DIRECT, with 1 and 4 queues, split; and two on packed rings."""
    disks, wanted = Disks(), []
    disks.add(f"{image}/programs.ext4", "readonly=on,direct=off")

    def add(engine, direct, queues, packed="off"):
        serial = f"{engine}-{direct}-{queues}" + ("-packed" if packed == "on" else "")
        wanted.append((serial, queues, packed))
        disks.add(sparse(folder / serial, 8 * MIB), f"aio={engine},direct={direct}",
                  f"num-queues={queues},packed={packed},serial={serial}")

    for engine in ("io_uring", "native", "threads"):
        for direct in ("on", "off"):
            if engine == "native" and direct == "off":
                continue  # refused at start: Linux AIO without O_DIRECT blocks
            for queues in (1, 4):
                add(engine, direct, queues)
    add("io_uring", "on", 4, packed="on")
    add("threads", "off", 1, packed="on")
    text = end(start_script(image, "fio_verify.sh", *disks.options, smp=2, memory_mib=256))
    for number, (serial, queues, packed) in enumerate(wanted):
        disk = f"vd{chr(ord('b') + number)}"
        seen = re.search(rf"^disk={disk} serial=(\S*) queues=(\d+) packed=(\d) sectors=(\d+)$", text, re.M)
        assert seen and seen[1] == serial and int(seen[4]) == 8 * MIB // 512, text[-3000:]
        assert seen[3] == ("1" if packed == "on" else "0"), seen[0]
        # Linux makes no more queues than it has processors.
        assert int(seen[2]) == min(queues, 2), seen[0]
        assert f"verified={disk} code=0" in text, text[-3000:]
    print(f"{len(wanted)} disks verified")


def roots(image, folder):
    """ext4, a partition, and squashfs as the root; each with the /init of its own."""
    ext4, partitioned, squashfs = folder / "ext4", folder / "partitioned", folder / "squashfs"
    shutil.copyfile(f"{image}/programs.ext4", ext4)
    size = os.path.getsize(ext4)
    sparse(partitioned, size + 2 * MIB)
    run("dd", f"if={ext4}", f"of={partitioned}", "bs=1M", "seek=1", "conv=notrunc", "status=none")
    subprocess.run(["sfdisk", "-q", partitioned], input=f"2048,{size // 512},L\n", text=True, check=True)
    tree = folder / "tree"
    tree.mkdir()
    run("mount", "-o", "loop,ro", ext4, tree)
    run("mksquashfs", tree, squashfs, "-noI", "-noD", "-noF", "-noX", "-no-progress", "-e", "usr/lib")
    run("umount", tree)
    for path, drive, root in ((ext4, "", "/dev/vda,ext4"), (partitioned, "", "/dev/vda1,ext4"),
                              (squashfs, "readonly=on", "/dev/vda,squashfs")):
        disks = Disks()
        disks.add(path, drive)
        text = end(start(image, f"reboot=t strato.end=reboot strato.root={root}", *disks.options))
        device, kind = root.split(",")
        mode = "ro" if drive else "rw"
        assert re.search(rf"^root={device} {kind} {mode}$", text, re.M), text[-3000:]
    print("3 roots")


def changes(image, folder):
    """A discard gives the blocks back; a new size is seen without a restart."""
    path = sparse(folder / "disk", 16 * MIB)
    disks = Disks()
    disks.add(path, "discard=unmap,direct=on")
    vmm = start_script(image, "disk_changes.sh", *disks.options)
    vmm.wait_for("written", LIMIT)
    assert os.stat(path).st_blocks * 512 >= 8 * MIB
    vmm.write(b"\n")
    vmm.wait_for("discarded", LIMIT)
    assert os.stat(path).st_blocks * 512 < MIB, "the blocks are still there"
    vmm.qmp.command("block_resize", device="drive0", size=24 * MIB)
    vmm.wait_for(rf"resized from {16 * MIB // 512} to {24 * MIB // 512}", LIMIT)
    end(vmm)
    assert os.path.getsize(path) == 24 * MIB
    print("discarded and resized")


def no_space(image, folder):
    """The host runs out of space: the guest stops, is told of nothing, and goes on when there is room again."""
    run("mount", "-t", "tmpfs", "-o", "size=6m", "small", folder)
    try:
        disks = Disks()
        disks.add(sparse(folder / "disk", 16 * MIB), "direct=off,werror=enospc")
        vmm = start_script(image, "fill.sh", *disks.options)
        error = vmm.qmp.wait_event("BLOCK_IO_ERROR")["data"]
        assert error["operation"] == "write" and error["action"] == "stop" and error["nospace"] is True, error
        vmm.qmp.wait_status("io-error")
        before = vmm.text()
        time.sleep(1)
        assert vmm.text() == before and "written=15" not in before
        run("mount", "-o", "remount,size=32m", folder)
        vmm.qmp.command("cont")
        text = end(vmm)
        assert "wrong bytes=0\n" in text, text[-2000:]
        assert "failed" not in text and "error" not in text.lower(), text[-2000:]
    finally:
        run("umount", "-l", folder)
    print("stopped for want of space, and went on")


def limits(image, folder):
    """bytes <= rate x elapsed + burst, and at least 70 % of it; then the same at half the rate."""
    first, seconds = 4 * MIB, 8
    disks = Disks()
    disks.add(sparse(folder / "disk", 64 * MIB), f"direct=off,throttling.bps-total={first}")
    vmm = start_script(image, "steady.sh", *disks.options)
    vmm.wait_for("begin", LIMIT)

    def done():
        return MIB * max(map(int, re.findall(r"^mib=(\d+)$", vmm.text(), re.M)), default=0)

    for rate in (first, first // 2):
        if rate != first:
            others = dict.fromkeys(("bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
            vmm.qmp.request("block_set_io_throttle", {"id": "disk0", "bps": rate, **others})
        before, began = done(), time.monotonic()
        time.sleep(seconds)
        moved, elapsed = done() - before, time.monotonic() - began
        # What is done is told in MiB.
        assert 0.7 * rate * elapsed - MIB <= moved <= rate * elapsed + 2 * rate + MIB, f"{moved} bytes in {elapsed:.1f} s"
        print(f"{moved / elapsed / rate:.2f} of the rate")
    vmm.qmp.command("quit")
    assert vmm.wait() == 0, vmm.stderr()


def killed(image, folder):
    """kill -9 under load: the next VMM has the image at once, and the file system is whole."""
    path = folder / "disk"
    sparse(path, 32 * MIB)
    run("mkfs.ext4", "-q", "-F", path)
    for _ in range(2):
        disks = Disks()
        disks.add(path)
        vmm = start_script(image, "durable.sh", *disks.options)
        vmm.wait_for("durable=4 ", LIMIT)
        vmm.signal(signal.SIGKILL)
        vmm.process.wait()
    done = subprocess.run(["e2fsck", "-fp", path], stdout=subprocess.PIPE, text=True)
    assert done.returncode in (0, 1), done.stdout
    print("killed twice, and whole")


if __name__ == "__main__":
    perform(globals())
