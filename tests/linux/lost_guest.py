"""Guests that an emulator loses: run as `lost_guest.py COMMAND ARGUMENT...`, or used by guests.py.

Under QEMU's software emulation a page fault that KVM delivers to a guest may hit an address that is nowhere (a bit too many in it): KVM gives the
guest the same page fault again, a hundred thousand times a second and for ever, and never leaves to the VMM. Guests of QEMU stop there as well. With
nested paging no sound guest gets page faults of KVM, so their number tells. Others just stand still, most with two processors on a busy host: the VMM
is asked for nothing more. Such a guest is ended with a word why and what KVM counted, so that its run can be repeated before it has eaten the time of
the others. Nothing is watched where the processor is real.
"""
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

COUNTERS = pathlib.Path("/sys/kernel/debug/kvm")
MANY = 10_000  # page faults between two looks; 100,000 and more were seen, none in a sound guest
PAUSE = 5
# Seconds without a write of the VMM: to a console, a file, or an eventfd. Sound guests do not sleep that long but in long runs, some of which also have
# everything done by vhost.
STILL = None if os.environ.get("STRATO_LONG") else 200
SAID = "guest lost: "


def emulated():
    """Whether the processor is. An Arm one does not say; a board of QEMU's whose kernel can have guests is one in practice."""
    board = pathlib.Path("/proc/device-tree/compatible")
    return "QEMU TCG" in pathlib.Path("/proc/cpuinfo").read_text() or (board.exists() and b"dummy-virt" in board.read_bytes())


def counted(pid, name):
    """What KVM has counted of this process's VM; 0 where the kernel does not say."""
    total = 0
    for path in COUNTERS.glob(f"{pid}-*/{name}"):
        with contextlib.suppress(OSError, ValueError):
            total += int(path.read_text())
    return total


def writes(pid):
    with contextlib.suppress(OSError):
        return int(re.search(r"syscw: (\d+)", pathlib.Path(f"/proc/{pid}/io").read_text())[1])
    return 0


def thread_lines(pid):
    """Name, state and processor time of each thread, and where it sleeps."""
    for task in sorted(pathlib.Path(f"/proc/{pid}/task").glob("*")):
        with contextlib.suppress(OSError):
            name, _, rest = (task / "stat").read_text().rpartition(") ")
            fields = rest.split()
            yield f"{name.partition('(')[2]}: {fields[0]}, {fields[11]} + {fields[12]} ticks, {(task / 'wchan').read_text()}"


def evidence(pid):
    """How the VM stands, for somebody who was not there: twice, with a pause, so that what moves is seen."""
    names = ("exits", "halt_exits", "irq_injections", "mmio_exits", "io_exits", "pf_guest")
    for _ in range(2):
        print(" ".join(f"{name}={counted(pid, name)}" for name in names), *thread_lines(pid), sep="\n  ", file=sys.stderr)
        time.sleep(2)


def watch(process, ended):
    """Kills the process and says so if its guest is lost; until `ended` is set."""
    faults, wrote, moved_at = counted(process.pid, "pf_guest"), 0, time.monotonic()
    while not ended.wait(PAUSE) and process.poll() is None:
        before, faults = faults, counted(process.pid, "pf_guest")
        if (now := writes(process.pid)) != wrote:
            wrote, moved_at = now, time.monotonic()
        why = None
        if faults - before > MANY:
            why = "the same page fault for ever"
        elif STILL and time.monotonic() - moved_at > STILL:
            why = f"nothing was written for {STILL} s"
        if why:
            print(SAID + why, file=sys.stderr)
            evidence(process.pid)
            sys.stderr.flush()
            process.kill()
            return


def start_watch(process):
    """Watches the VMM (a subprocess.Popen) from a thread; gives an event that ends it."""
    ended = threading.Event()
    if emulated():
        if not COUNTERS.exists():
            subprocess.run(["mount", "-t", "debugfs", "debugfs", COUNTERS.parent], stderr=subprocess.DEVNULL)
        threading.Thread(target=watch, args=(process, ended), daemon=True).start()
    return ended


def main():
    process = subprocess.Popen(sys.argv[1:])
    ended = start_watch(process)
    code = process.wait()
    ended.set()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
