"""What bench/block, net, vsock and fs share: monitors with the same guest, alternating in one bed, what each took for its work, and ratios.

The guest (bench/guest.sh) prints for each workload `BENCH-BEGIN NAME`, then `BENCH-END NAME RATE NUMBER`: how many a second, and how many in all.
"""
import argparse
import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import typing

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/linux"))

from lost_guest import start_watch  # noqa: E402

WORDS = "console=ttyS0 quiet panic=-1 reboot=t strato.report=no strato.run=/guest.sh strato.end=reboot"
BOOT_LIMIT_S = 120  # 10 on a quiet machine, and QEMU's 20
ATTEMPTS = 4
MEMORY_MIB = 256
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Unit:
    """How what a workload counts is printed."""
    rate: str
    rate_scale: float
    cost: str
    cost_scale: float
    exits_of: str
    exits_scale: float


EACH = Unit("/s", 1, "us", 1e6, "", 1)
BYTES = Unit("Gbit/s", 8e-9, "s/GiB", 1 << 30, "/MiB", 1 << 20)


@dataclasses.dataclass(frozen=True)
class Work:
    command: str  # of the guest
    unit: Unit = EACH


@dataclasses.dataclass(frozen=True)
class Monitor:
    command: str
    # A context that gives the processes whose time counts as well, for one guest.
    helpers: typing.Callable = lambda: contextlib.nullcontext([])


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two of the monitors, and how many times the other's rate is aimed at."""
    ours: str
    other: str
    aim: float


def parser(description, seconds=5, smp=1):
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--runs", type=int, default=3)
    made.add_argument("--seconds", type=int, default=seconds, help="of each workload")
    made.add_argument("--smp", type=int, default=smp)
    made.add_argument("--binary", default=os.path.join(ROOT, "build/release/bin/stratovirt"))
    made.add_argument("--only", action="append", default=[], metavar="NAME", help="a workload")
    made.add_argument("--image", help=argparse.SUPPRESS)  # set when we run ourselves under with-kvm
    return made


def guest_options(args, machine=""):
    return f"-machine microvm{machine} -m {MEMORY_MIB} -smp {args.smp} -kernel {args.image}/vmlinux -initrd {args.image}/initramfs.cpio -append '{WORDS}' -serial stdio"


def ours(args, devices, machine=""):
    return f"{args.binary} {guest_options(args, machine)} {devices}"


def qemu(args, devices, machine=""):
    # virtio 1.x as ours, which back ends of vhost-user insist on.
    return (f"qemu-system-x86_64 {guest_options(args, ',rtc=on,pit=off,pic=off' + machine)} -accel kvm -cpu host -nodefaults -no-user-config "
            f"-nographic -no-reboot -global virtio-mmio.force-legacy=false {devices}")


def vhost_workers(pid):
    """The kernel's threads that serve rings of the process; they do not count as its own."""
    found = []
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            if comm.read_text().strip() == f"vhost-{pid}":
                found.append(int(comm.parent.name))
    return found


def cpu_seconds(pid):
    """Of all threads and kernel I/O workers that the process has or had, without a guest's own."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12]) - int(fields[40])) / TICKS  # utime, stime, guest_time


def exits(pid):
    """Exits to user space so far; None where debugfs is not there."""
    total = None
    for folder in pathlib.Path("/sys/kernel/debug/kvm").glob(f"{pid}-*"):
        for name in ("mmio_exits", "io_exits"):
            total = (total or 0) + int((folder / name).read_text())
    return total


class Accesses:
    """The guests' accesses to MMIO by register, counted by the kernel's trace point; empty where tracefs is not there."""

    TRIGGER = pathlib.Path("/sys/kernel/tracing/events/kvm/kvm_mmio/trigger")
    RULE = "hist:keys=gpa if type != 1"  # 1: the second half of a read
    NAMES = {0x50: "QueueNotify", 0x60: "InterruptStatus", 0x64: "InterruptACK"}

    def begin(self):
        self._write(self.RULE)

    def end(self):
        """{register: accesses} since begin()."""
        counts = {}
        if self.TRIGGER.exists():
            for gpa, hits in re.findall(r"gpa: *(\d+) \} hitcount: *(\d+)", (self.TRIGGER.parent / "hist").read_text()):
                name = self.NAMES.get(int(gpa) & 0x1ff, "others")
                counts[name] = counts.get(name, 0) + int(hits)
        self._write("!" + self.RULE)
        return counts

    def _write(self, rule):
        if self.TRIGGER.exists():
            self.TRIGGER.write_text(rule)


class Meter:
    """What one workload takes, from its begin to its end."""

    def __init__(self, pid, helpers):
        self._pid = pid
        self._processes = [pid, *helpers, *vhost_workers(pid)]
        self._accesses = Accesses()
        self._accesses.begin()
        self._cpu = self._cpu_seconds()
        self._exits = exits(pid)

    def _cpu_seconds(self):
        return sum(map(cpu_seconds, self._processes))

    def end(self, rate, number):
        number = max(1, number)
        out = exits(self._pid)
        return {"rate": rate, "cpu": (self._cpu_seconds() - self._cpu) / number, "exits": None if out is None else (out - self._exits) / number,
                "registers": {name: count / number for name, count in self._accesses.end().items()}}


def run_once(monitor, samples, limit):
    """One guest through all workloads; what it printed if it did not come to its end."""
    with monitor.helpers() as helpers:
        vmm = subprocess.Popen(shlex.split(monitor.command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace")
        lost = start_watch(vmm)
        watchdog = threading.Timer(limit, vmm.kill)
        watchdog.start()
        meter, output, found = None, [], {}
        for line in vmm.stdout:
            output.append(line)
            if line.startswith("BENCH-BEGIN"):
                meter = Meter(vmm.pid, helpers)
            elif result := re.match(r"BENCH-END (\S+) ([\d.]+) (\d+)$", line):
                found[result[1]] = meter.end(float(result[2]), int(result[3]))
        vmm.wait()
        watchdog.cancel()
        lost.set()
    text = "".join(output)
    if "BENCH-COMPLETE" not in text:
        return text
    for work, sample in found.items():
        samples.setdefault(work, []).append(sample)
    return None


def run_to_end(name, monitor, samples, limit):
    """Again if the guest did not come to its end: the emulator of a bed fails one now and then (tools/bed/README.md)."""
    for _ in range(ATTEMPTS):
        output = run_once(monitor, samples, limit)
        if output is None:
            return
        print(f"{name}: not to its end, begun again; it printed:\n{output[-1000:]}", file=sys.stderr, flush=True)
    sys.exit(f"{name}: not to its end, {ATTEMPTS} times")


def median(samples, key):
    values = [sample[key] for sample in samples if sample[key] is not None]
    return statistics.median(values) if values else None


def number(value):
    return "-" if value is None else f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def ratio(a, b):
    return "-" if a is None or not b else f"{a / b:.2f}"


def print_pair(pair, works, samples):
    print(f"\n{pair.ours} against {pair.other}; aim: at least {pair.aim} x its rate")
    print(f"{'':<22}{'rate':>10}{'other':>10}{'ratio':>8}{'':<9}{'CPU':>10}{'other':>10}{'ratio':>8}{'':<8}{'exits':>10}{'other':>10}")
    for name, work in works.items():
        unit = work.unit
        cells = []
        for key, scale in (("rate", unit.rate_scale), ("cpu", unit.cost_scale), ("exits", unit.exits_scale)):
            middle = [median(samples[which].get(name, []), key) for which in (pair.ours, pair.other)]
            cells.append([None if value is None else value * scale for value in middle])
        rates, costs, outs = cells
        print(f"{name:<22}{number(rates[0]):>10}{number(rates[1]):>10}{ratio(*rates):>8} {unit.rate:<8}{number(costs[0]):>10}{number(costs[1]):>10}"
              f"{ratio(*costs):>8} {unit.cost:<7}{number(outs[0]):>10}{number(outs[1]):>10} {unit.exits_of}")


def print_accesses(works, samples):
    print("\naccesses to registers")
    for name, work in works.items():
        for which, runs in samples.items():
            if runs.get(name):
                counts = runs[name][-1]["registers"]
                print(f"{name:<22}{which:<24}" + "  ".join(f"{register} {count * work.unit.exits_scale:.2f}" for register, count in sorted(counts.items())) +
                      f" {work.unit.exits_of}")


def chosen(args, works):
    unknown = set(args.only) - set(works)
    if unknown:
        sys.exit(f"--only: {', '.join(sorted(unknown))}: there are {', '.join(works)}")
    return {name: work for name, work in works.items() if not args.only or name in args.only}


def compare(args, works, monitors, pairs):
    """In the bed: all of them, one after the other, as often as --runs says."""
    works = chosen(args, works)
    for kind, folder in (("debugfs", "/sys/kernel/debug"), ("tracefs", "/sys/kernel/tracing")):
        subprocess.run(f"mountpoint -q {folder} || mount -t {kind} {kind} {folder}", shell=True)
    samples = {name: {} for name in monitors}
    limit = BOOT_LIMIT_S + len(works) * 4 * (args.seconds + 2)
    for _ in range(args.runs):
        for name, monitor in monitors.items():
            run_to_end(name, monitor, samples[name], limit)
            said = [f"{work} {number(runs[-1]['rate'] * works[work].unit.rate_scale)}" for work, runs in samples[name].items()]
            print(f"{name}: {', '.join(said)}", file=sys.stderr, flush=True)
    for pair in pairs:
        print_pair(pair, works, samples)
    print_accesses(works, samples)
    print("\nCPU is that of the monitor with all its threads, of the kernel's workers for it and of helpers, without what the guest itself ran.")


class Served:
    """The host's end of tests/linux/flow.c, at these addresses."""

    def __init__(self, args, *addresses):
        self._process = subprocess.Popen([f"{args.image}/flow", "serve", *addresses], stdout=subprocess.PIPE)
        assert self._process.stdout.readline(), "flow serves nobody"

    def close(self):
        self._process.kill()
        self._process.wait()


def compile_static(source, folder):
    """A program for a guest, which has no libraries."""
    program = os.path.join(folder, os.path.basename(source).removesuffix(".c"))
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, os.path.join(ROOT, source)], check=True)
    return program


def main(script, args, works, measure, *, setup, modules, packages, programs=(), image_options=(), inside=()):
    """Makes the guest's image, and runs the script again under tools/with-kvm; there `measure(args)`. `programs` are C files for the guest, and for
    measure() beside the image; `setup` is what the guest does first (bench/guest.sh)."""
    if args.image:
        measure(args)
        return 0
    if not os.access(args.binary, os.X_OK):
        sys.exit(f"{args.binary} is missing: run tools/build")
    with tempfile.TemporaryDirectory() as image:
        subprocess.run([os.path.join(ROOT, "tools/packages"), *packages], check=True)
        workloads = "".join(f"{name} {work.command.format(seconds=args.seconds)}\n" for name, work in chosen(args, works).items())
        files = {f"{ROOT}/bench/guest.sh": "guest.sh"}
        for name, text in (("workloads", workloads), ("setup", setup)):
            pathlib.Path(image, name).write_text(text)
            files[f"{image}/{name}"] = name
        for source in programs:
            program = compile_static(source, image)
            files[program] = os.path.basename(program)
        subprocess.run([os.path.join(ROOT, "tools/guest-image"), "--modules", modules, *image_options, "--files",
                        *[f"{source}:{target}" for source, target in files.items()], "--out", image], check=True, stderr=subprocess.DEVNULL)
        return subprocess.run([os.path.join(ROOT, "tools/with-kvm"), *inside, "/usr/bin/python3", "-B", os.path.abspath(script), *sys.argv[1:],
                               "--image", image]).returncode
