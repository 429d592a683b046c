"""tools/with-kvm: runs a command where a Linux guest can boot."""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import arch
import client
import hold
import keeper
import machine
from packages import Failure, say

OWN_FAILURE = 125  # as timeout(1) and env(1) have it
DESCRIPTION = """\
Runs CMD where a Linux guest can boot: directly with hardware KVM, otherwise in the bed, an emulated machine with a real KVM
that sees this machine's files read-only at their own paths. Arguments, environment, working directory, standard streams
and exit code are those of a direct run. Writable there: /tmp and /var/tmp (thrown away), $STRATO_SCRATCH (the same folder
inside and outside) and $STRATO_SCRATCH_DISK (an ext4 file system of the bed's own). Exit code 124 after a time-out, 125
when with-kvm itself failed.

With --arch of another architecture it is always the bed, whose /usr has Debian's programs of that architecture: CMD is
/usr/bin/python3, a shell, or a program built for it. A bed that is up knows what it is; --arch, --gic and --sve matter at its
start, and with --keep, which keeps one for each. An arm64 bed is a Cortex-A57 with a GICv3 and its ITS, if nothing else is said."""


def parse(argv):
    parser = argparse.ArgumentParser(prog="with-kvm", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bed", metavar="DIR", default=os.environ.get("STRATO_BED"),
                        help="use the bed that runs in DIR (default: $STRATO_BED); with --start the folder to start it in")
    parser.add_argument("--keep", metavar="NAME", help="use the bed called NAME, started when it is not up, and leave it up")
    parser.add_argument("--start", action="store_true", help="start a bed, print its folder and leave it up")
    parser.add_argument("--stop", action="store_true", help="stop the bed of --bed or --keep")
    parser.add_argument("--owner", metavar="PID", type=int, help="a bed that is left up ends with this process")
    parser.add_argument("--idle", metavar="S", type=float, default=3600, help="and after so many seconds without a command (3600)")
    parser.add_argument("--patience", metavar="S", type=float, default=150,
                        help="a bed that is left up and does not answer for so long is started anew (150)")
    parser.add_argument("--timeout", metavar="S", type=float, help="end CMD, with all its processes, after so many seconds")
    parser.add_argument("--memory", metavar="MIB", type=int, default=8192, help="the bed's memory, used as needed (8192)")
    parser.add_argument("--cpus", metavar="N", type=int, help="the bed's processors (2 to 4, as the machine has)")
    parser.add_argument("--arch", choices=sorted(arch.ARCHES), help="the guest's architecture (default: the bed's, or this machine's)")
    parser.add_argument("--gic", metavar="N", type=int, choices=machine.GICS, help="an arm64 bed's interrupt controller: 3 or 2")
    parser.add_argument("--sve", action="store_true", help="an arm64 bed with QEMU's newest processor (SVE, VHE, PMU ...), which is slower")
    parser.add_argument("--nested", action="store_true", help="use the bed also where KVM is real")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD ARGS...")
    options = parser.parse_args(argv)
    if options.command[:1] == ["--"]:
        del options.command[0]
    if bool(options.command) == (options.start or options.stop):
        parser.error("give a command, or --start, or --stop")
    if options.keep:
        options.bed = None  # not $STRATO_BED
    options.kind = kind_wanted(options)
    if (options.gic or options.sve) and options.kind.arch.name != "aarch64":
        parser.error("--gic and --sve are for --arch aarch64")
    if options.keep:
        default = options.kind == machine.Kind(arch.host())
        options.bed = keeper.named_folder(options.keep if default else f"{options.keep}-{options.kind.label()}")
    return options


def kind_wanted(options):
    """What the bed shall be, or is if it is up."""
    wanted = arch.ARCHES[options.arch] if options.arch else None
    kind = machine.kind_of(options.bed) if options.bed and options.command else None
    if kind:
        if wanted not in (None, kind.arch) or options.gic not in (None, kind.gic) or (options.sve and not kind.sve):
            raise Failure(f"{options.bed}: the bed that runs there is {kind.label()}")
        return kind
    return machine.Kind(wanted or arch.host(), options.gic or machine.GICS[0], options.sve)


def kvm_is_real():
    """Whether guests run on the processor itself: some hosts emulate KVM, and Linux does not boot there."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return False
    if arch.host().name != "x86_64":
        return True
    flags = re.search(r"^flags\s*:.*\b(vmx|svm)\b", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return flags is not None


def run_direct(options):
    with tempfile.TemporaryDirectory(prefix="strato-scratch-") as temporary:
        scratch = os.path.join(options.bed, "scratch") if options.bed else os.environ.get("STRATO_SCRATCH", temporary)
        env = dict(os.environ, STRATO_SCRATCH=scratch)
        env.setdefault("STRATO_SCRATCH_DISK", scratch)
        limit = ["timeout", "--kill-after", str(client.GRACE_SECONDS), str(options.timeout)] if options.timeout else []
        try:
            child = subprocess.Popen(limit + options.command, env=env)
        except OSError as error:
            print(f"with-kvm: {options.command[0]}: {error.strerror}", file=sys.stderr)
            return 127 if isinstance(error, FileNotFoundError) else 126
        for number in client.FORWARDED:
            signal.signal(number, lambda received, _frame: child.send_signal(received))
        began = time.monotonic()
        code = child.wait()
        if options.timeout and code == 128 + signal.SIGKILL and time.monotonic() - began > options.timeout:
            return client.TIMED_OUT
        return code if code >= 0 else 128 - code


def bed_environment(folder):
    return dict(os.environ, STRATO_SCRATCH=os.path.realpath(os.path.join(folder, "scratch")),
                STRATO_SCRATCH_DISK="/run/strato/disk",
                PATH="/run/strato/bin:" + os.environ.get("PATH", os.defpath))  # a modprobe that finds the bed's modules


def run_in(folder, options, is_alive):
    try:
        return client.run_in_bed(folder, options.command, bed_environment(folder), options.timeout, machine.BOOT_SECONDS, is_alive)
    except client.BedGone as error:
        raise Failure(f"{error}\n{machine.last_words(folder)}") from error


def run_once(options):
    """In a bed of the command's own, whose scratch folder is the caller's if there is one."""
    folder = keeper.temporary_folder()
    try:
        scratch = os.environ.get("STRATO_SCRATCH")
        if scratch:
            os.symlink(os.path.abspath(scratch), os.path.join(folder, "scratch"))
        with hold.held(folder):
            qemu = machine.start(folder, options.kind, options.memory, options.cpus)
            try:
                return run_in(folder, options, lambda: qemu.poll() is None)
            finally:
                qemu.kill()
                qemu.wait()
    finally:
        keeper.tidy(folder)
        say("the bed is gone")


def run_kept(options):
    if options.keep:
        keeper.start_unless_up(options.bed, options)
    return run_in(options.bed, options, lambda: hold.keeper_pid(options.bed) is not None)


def start(options, real):
    folder = options.bed or keeper.temporary_folder()
    if real:
        os.makedirs(os.path.join(folder, "scratch"), exist_ok=True)
    else:
        keeper.start(folder, options)
    print(folder, flush=True)
    return 0


def main(argv):
    options = parse(argv)
    real = options.kind.arch.is_hosts and kvm_is_real() and not options.nested
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    if options.start:
        return start(options, real)
    if options.stop:
        return keeper.stop(options.bed)
    if real:
        return run_direct(options)
    return run_kept(options) if options.bed else run_once(options)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failure as failure:
        print(f"with-kvm: {failure}", file=sys.stderr)
        sys.exit(OWN_FAILURE)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
