"""An emulator's fault that a guest does not survive, and does not end of: run as `endless_fault.py COMMAND ARGUMENT...`, or used by guests.py.

Under QEMU's software emulation a page fault that KVM delivers to a guest may hit an address that is nowhere (a bit too many in it): KVM gives the
guest the same page fault again, a hundred thousand times a second and for ever, and never leaves to the VMM. Guests of QEMU stop there as well. With
nested paging no sound guest gets page faults of KVM, so their number tells. Nothing is watched where the processor is real.
"""
import contextlib
import pathlib
import subprocess
import sys
import threading

FAULTS = pathlib.Path("/sys/kernel/debug/kvm")
MANY = 10_000  # between two looks; 100,000 and more were seen, none in a sound guest
PAUSE = 5
SAID = "guest faulted: the same page fault for ever"


def emulated():
    return "QEMU TCG" in pathlib.Path("/proc/cpuinfo").read_text()


def page_faults(pid):
    """Page faults that KVM gave the guest of this process; 0 where the kernel does not say."""
    total = 0
    for path in FAULTS.glob(f"{pid}-*/pf_guest"):
        with contextlib.suppress(OSError, ValueError):
            total += int(path.read_text())
    return total


def watch(process, ended):
    """Kills the process and says so if its guest is lost; until `ended` is set."""
    before = page_faults(process.pid)
    while not ended.wait(PAUSE) and process.poll() is None:
        now = page_faults(process.pid)
        if now - before > MANY:
            print(SAID, file=sys.stderr, flush=True)
            process.kill()
            return
        before = now


def start_watch(process):
    """Watches the VMM (a subprocess.Popen) from a thread; gives an event that ends it."""
    ended = threading.Event()
    if emulated():
        if not FAULTS.exists():
            subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], stderr=subprocess.DEVNULL)
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
