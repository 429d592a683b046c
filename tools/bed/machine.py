"""The bed: a Linux under QEMU's software emulation of an AMD processor, so that it has a real kvm_amd."""

import ctypes
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import time

import kernel
from initramfs import Initramfs
from packages import Failure, ensure_programs, find_program, run, say

HERE = pathlib.Path(__file__).resolve().parent
PORTS = 8  # commands at a time
DISK_BYTES = 16 << 30  # sparse
BOOT_SECONDS = 180
MODULES = ["virtio_pci", "virtio_console", "virtio_blk", "9pnet_virtio", "9p", "overlay", "ext4", "dummy"]
LATER_MODULES = ["kvm-amd"]
# A periodic tick, because beds were seen to sleep for ever. Suspected, not proven: QEMU clears a bit of pending interrupts on
# leaving a guest without holding its lock, and so loses an interrupt that comes just then. A one-shot timer does not come again.
KERNEL_OPTIONS = ("console=ttyS0 quiet panic=-1 reboot=t mitigations=off random.trust_cpu=on cryptomgr.notests audit=0 "
                  "tsc=reliable nohz=off highres=off")
PR_SET_PDEATHSIG = 1
# QEMU 7.2 lets a guest's XSETBV through to the bed's own register, unseen by KVM, which sets it back at the next entry: guests
# that trust XSAVE then lose their signal frames. So the bed has none of it, and nothing that needs it.
PROCESSOR = "max,+svm,-xsave,-xsaveopt,-xsavec,-xsaves,-avx,-avx2,-fma,-f16c,-vaes,-vpclmulqdq,-mpx,-pku"


def prepare():
    """Fetches whatever a bed needs and returns its kernel."""
    ensure_programs("bed", "qemu-system-x86_64", "mkfs.ext4", "busybox")
    return kernel.fetch("generic")


def start(folder, memory_mib=8192, processors=None):
    """Starts QEMU, which dies with this process, on the bed's folder; the sockets are there at once. Returns the Popen."""
    linux = prepare()
    folder = pathlib.Path(folder)
    scratch = (folder / "scratch").resolve()
    scratch.mkdir(exist_ok=True)
    disk = folder / "disk.img"
    with open(disk, "wb") as file:
        file.truncate(DISK_BYTES)
    run([find_program("mkfs.ext4"), "-q", "-F", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", disk])
    (folder / "initramfs").write_bytes(make_initramfs(linux, scratch))
    argv = [find_program("qemu-system-x86_64"), *machine_options(memory_mib, processors),
            "-kernel", linux.vmlinux, "-initrd", "initramfs",
            "-append", KERNEL_OPTIONS,
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


def machine_options(memory_mib, processors):
    processors = processors or max(2, min(4, len(os.sched_getaffinity(0))))
    return ["-name", "strato-bed", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-smp", processors,
            "-m", memory_mib, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]


def share(tag, path, readonly):
    """A 9p export of a folder of the host."""
    options = f"local,id={tag},path={str(path).replace(',', ',,')},security_model=none,multidevs=remap"
    options += ",readonly=on" if readonly else ""
    return ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def make_initramfs(linux, scratch):
    image = Initramfs()
    image.busybox()
    image.modules(linux, MODULES)
    image.modules(linux, LATER_MODULES, "modules/later")
    image.file("init", (HERE / "bed_init.sh").read_bytes(), 0o755)
    image.device("dev/console", 5, 1)
    settings = {"SCRATCH": scratch, "MODULES": linux.folder, "AGENT": HERE / "agent.py", "MODPROBE": find_program("modprobe")}
    image.file("settings", "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in settings.items()).encode())
    return image.archive()


def last_words(folder):
    """The end of what QEMU and the bed's kernel printed."""
    logs = [pathlib.Path(folder) / name for name in ("qemu.log", "console.log")]
    lines = [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()]
    return "\n".join(lines[-40:])


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
