"""The bed: a Linux under QEMU's software emulation of a processor that can virtualise, so that it has a real KVM."""

import ctypes
import dataclasses
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import time

import arch
import emulator
import hold
import kernel
import userland
from initramfs import Initramfs
from packages import Failure, ensure_programs, find_program, run, say

HERE = pathlib.Path(__file__).resolve().parent
PORTS = 8  # commands at a time
DISK_BYTES = 16 << 30  # sparse
BOOT_SECONDS = 180
MODULES = ["virtio_pci", "virtio_console", "virtio_blk", "9pnet_virtio", "9p", "overlay", "ext4", "dummy"]
LATER_MODULES = {"x86_64": ["kvm-amd"], "aarch64": []}  # Debian's arm64 kernels have KVM built in
COMMON_OPTIONS = "quiet panic=-1 mitigations=off random.trust_cpu=on cryptomgr.notests audit=0"
KERNEL_OPTIONS = {
    # A periodic tick, because beds were seen to sleep for ever. Suspected, not proven: QEMU clears a bit of pending interrupts on
    # leaving a guest without holding its lock, and so loses an interrupt that comes just then. A one-shot timer does not come again.
    "x86_64": "console=ttyS0 reboot=t tsc=reliable nohz=off highres=off",
    "aarch64": "console=ttyAMA0",
}
MONITOR_COMMANDS = {"x86_64": ["info registers -a", "info lapic 0", "info lapic 1"], "aarch64": ["info registers -a"]}
PR_SET_PDEATHSIG = 1
# QEMU 7.2 lets a guest's XSETBV through to the bed's own register, unseen by KVM, which sets it back at the next entry: guests
# that trust XSAVE then lose their signal frames. So the bed has none of it, and nothing that needs it.
AMD_PROCESSOR = "max,+svm,-xsave,-xsaveopt,-xsavec,-xsaves,-avx,-avx2,-fma,-f16c,-vaes,-vpclmulqdq,-mpx,-pku"
GICS = (3, 2)


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a bed is, as far as its commands may mind."""

    arch: arch.Arch
    gic: int = GICS[0]
    sve: bool = False

    def label(self):
        """Words from which parse() makes it again: aarch64, aarch64-gic2, aarch64-gic2-sve ..."""
        return "-".join([self.arch.name, *([f"gic{self.gic}"] if self.gic != GICS[0] else []), *(["sve"] if self.sve else [])])

    @staticmethod
    def parse(label):
        name, *words = label.strip().split("-")
        return Kind(arch.ARCHES[name], next((gic for gic in GICS if f"gic{gic}" in words), GICS[0]), "sve" in words)

    def options(self):
        """Of QEMU."""
        if self.arch.name == "x86_64":
            return ["-M", "q35", "-cpu", AMD_PROCESSOR]
        # QEMU's own pointer authentication is quick; the architected one makes Linux crawl.
        processor = "max,pauth-impdef=on" if self.sve else "cortex-a57"
        return ["-M", f"virt,virtualization=on,gic-version={self.gic}", "-cpu", processor]


def prepare(kind):
    """Fetches whatever a bed needs and returns its kernel."""
    ensure_programs("bed", "mkfs.ext4", "busybox")
    emulator.of(kind.arch)
    userland.of(kind.arch)
    return kernel.fetch("generic", kind.arch)


def start(folder, kind, memory_mib=8192, processors=None):
    """Starts QEMU, which dies with this process, on the bed's folder; the sockets are there at once. Returns the Popen."""
    linux = prepare(kind)
    folder = pathlib.Path(folder)
    scratch = (folder / "scratch").resolve()
    scratch.mkdir(exist_ok=True)
    disk = folder / "disk.img"
    with open(disk, "wb") as file:
        file.truncate(DISK_BYTES)
    run([find_program("mkfs.ext4"), "-q", "-F", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", disk])
    (folder / "initramfs").write_bytes(make_initramfs(kind.arch, linux, scratch))
    argv = [*emulator.of(kind.arch), *kind.options(), *common_options(memory_mib, processors),
            "-kernel", linux.quickest, "-initrd", "initramfs",
            "-append", f"{COMMON_OPTIONS} {KERNEL_OPTIONS[kind.arch.name]}",
            "-serial", "file:console.log", *share("host", "/", True), *share("scratch", scratch, False),
            "-drive", "file=disk.img,format=raw,if=none,id=disk,cache=unsafe", "-device", "virtio-blk-pci,drive=disk",
            "-monitor", "unix:monitor,server=on,wait=off",  # for a look at a bed that hangs
            "-device", "virtio-serial-pci"]
    for port in range(PORTS):
        argv += ["-chardev", f"socket,id=port{port},path=port{port},server=on,wait=off",
                 "-device", f"virtserialport,chardev=port{port},name=strato.{port}"]
    say("starting the bed")
    with open(folder / "qemu.log", "wb") as log:
        qemu = subprocess.Popen([str(word) for word in argv], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                start_new_session=True, preexec_fn=die_with_parent)
    while not (folder / f"port{PORTS - 1}").exists():
        if qemu.poll() is not None:
            raise Failure(f"QEMU did not start\n{last_words(folder)}")
        time.sleep(0.02)
    return qemu


def common_options(memory_mib, processors):
    processors = processors or max(2, min(4, len(os.sched_getaffinity(0))))
    return ["-name", "strato-bed", "-accel", "tcg,thread=multi", "-smp", processors, "-m", memory_mib,
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]


def share(tag, path, readonly):
    """A 9p export of a folder of the host."""
    options = f"local,id={tag},path={str(path).replace(',', ',,')},security_model=none,multidevs=remap"
    options += ",readonly=on" if readonly else ""
    return ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def make_initramfs(own, linux, scratch):
    image = Initramfs(own)
    image.busybox()
    image.modules(linux, MODULES)
    image.modules(linux, LATER_MODULES[own.name], "modules/later")
    image.file("init", (HERE / "bed_init.sh").read_bytes(), 0o755)
    image.device("dev/console", 5, 1)
    settings = {"SCRATCH": scratch, "MODULES": linux.folder, "AGENT": HERE / "agent.py", "MODPROBE": find_program("modprobe"),
                "USERLAND": userland.of(own).root or ""}
    image.file("settings", "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in settings.items()).encode())
    return image.archive()


def last_words(folder):
    """The end of what QEMU and the bed's kernel printed."""
    logs = [pathlib.Path(folder) / name for name in ("qemu.log", "console.log")]
    lines = [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()]
    return "\n".join(lines[-40:])


def write_kind(folder, kind):
    """For whoever finds the bed."""
    with open(os.path.join(folder, "kind"), "w") as file:
        file.write(f"{kind.label()}\n")


def kind_of(folder):
    """What the bed is that is up in the folder, or None."""
    try:
        with open(os.path.join(folder, "kind")) as file:
            return Kind.parse(file.read()) if hold.keeper_pid(folder) is not None else None
    except FileNotFoundError:
        return None


def ask_monitor(folder, commands):
    """The answers of QEMU's monitor as far as they come; a hung bed may have a hung QEMU."""
    answers = b""
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(2)
            monitor.connect(f"/proc/self/fd/{folder_fd}/monitor")
            monitor.sendall("".join(f"{command}\n" for command in commands).encode())
            while data := monitor.recv(1 << 16):
                answers += data
    except OSError:  # also the time-out that ends an orderly answer
        pass
    finally:
        os.close(folder_fd)
    return answers.decode(errors="replace")
