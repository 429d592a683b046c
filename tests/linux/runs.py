"""The runs: which kernel, in which machine, to which end; and what came out."""
import dataclasses
import os
import pathlib
import platform
import re
import shlex
import subprocess
import time
import warnings

import lost_guest
from boards import BOARD
from vmm import ROOT, SCALE, architecture, binary

HERE = pathlib.Path(__file__).resolve().parent
WITH_KVM = os.path.join(ROOT, "tools", "with-kvm")
TIMED_OUT = 124
BED_FAILED = 125  # not the command: the emulator of a bed may end, and the bed is started anew
LIMIT = 400  # seconds for one run; a boot takes 10 on a quiet machine
WORDS = f"console={BOARD.console} quiet panic=-1"
MARK = f"strato.port={BOARD.progress},2"  # init has begun
QEMU_MACHINES = {"microvm": "microvm,rtc=on,pit=off,pic=off"}  # without its RTC Linux polls for one, and complains


@dataclasses.dataclass(frozen=True)
class Run:
    flavour: str = "cloud"
    file: str = BOARD.kernel
    programs: str = ""  # added to the initramfs
    smp: str = "1"
    memory: str = "256M"
    machine: str = "microvm"
    words: str = ""  # appended to WORDS
    extra: tuple = ()
    serial: str = "stdio"  # "file": its content, and the boot timeline, are printed afterwards
    scenario: str = ""  # function of scenarios.py that does it instead
    qemu: bool = False
    bed: tuple = ()  # options of with-kvm for a bed of its own

    @property
    def image(self):
        return self.flavour, self.programs

    @property
    def processors(self):
        return int(self.smp.split(",")[0])

    @property
    def reports(self):
        """Whether the output is that of a start of ours to init's report, and nothing else."""
        return not (self.scenario or self.qemu or "strato.report=no" in self.words)

    @property
    def acpi(self):
        return architecture() == "x86_64" and "acpi=off" not in f"{self.machine} {self.words}"


X86_64 = {
    "bzImage": Run(file="bzImage", memory="128M", words=f"{MARK} strato.end=poweroff -- word=of-init", serial="file"),
    "vmlinux": Run(smp="2", memory="5G", words="strato.end=reboot"),
    "backports": Run(flavour="backports", smp="2", words="strato.end=reboot reboot=a"),
    "backports bzImage": Run(flavour="backports", file="bzImage", machine="microvm,virtio-cmdline=off",
                             words="strato.end=reboot reboot=k"),
    "topology": Run(programs="lscpu,acpidump", smp="8,sockets=2,cores=2,threads=2", memory="512M",
                    words="strato.run=/tables.sh strato.end=reboot reboot=t"),
    "acpi=off": Run(words="acpi=off strato.end=reboot reboot=t"),
    # nolapic: docs/guide/running.md says why a kernel without an MP parser needs it on a slow host.
    "machine acpi=off": Run(file="bzImage", machine="microvm,acpi=off", words="nolapic strato.end=reboot reboot=t"),
    "panic": Run(flavour="backports", words="strato.report=no strato.end=panic"),
    "restart": Run(scenario="restart"),
    "pty": Run(scenario="console_on_a_pty"),
    "socket": Run(flavour="backports", scenario="console_on_a_socket"),
    "save": Run(smp="2", scenario="save_and_restore"),
    "save backports": Run(flavour="backports", scenario="save_and_restore"),
    "qemu": Run(smp="2", qemu=True),
    "qemu backports": Run(flavour="backports", smp="2", qemu=True),
    "qemu acpi=off": Run(words="acpi=off", qemu=True, machine="microvm,rtc=on,pit=on,pic=on"),
    "qemu nolapic": Run(words="nolapic", qemu=True, machine="microvm,acpi=off,rtc=on,pit=on,pic=on"),
}

AARCH64 = {
    "Image": Run(memory="128M", words=f"{MARK} strato.end=poweroff -- word=of-init", serial="file"),
    "Image.gz": Run(file="Image.gz", smp="2", memory="5G", words="strato.end=reboot"),
    "18 processors": Run(programs="lscpu", smp="18", memory="512M", words="strato.run=/interrupts_seen.sh strato.end=reboot"),
    "GICv2": Run(smp="2", words="strato.run=/interrupts_seen.sh strato.end=reboot", bed=("--gic", "2")),
    "backports": Run(flavour="backports", smp="2", words="strato.end=reboot"),
    "panic": Run(words="strato.report=no strato.end=panic"),
    "restart": Run(scenario="restart"),
    "pty": Run(scenario="console_on_a_pty"),
    "save": Run(smp="2", scenario="save_and_restore"),
    "save GICv2": Run(smp="2", scenario="save_and_restore", bed=("--gic", "2")),
    "9 on a GICv2": Run(smp="9", scenario="too_many_for_a_gicv2", bed=("--gic", "2")),
    "254 processors": Run(smp="254", memory="1G", words="strato.end=reboot"),
}

RUNS = {"x86_64": X86_64, "aarch64": AARCH64}[architecture()]
FIRST = next(iter(RUNS))  # the simplest

# Only in tools/test --long: each takes half a minute and more of an emulated machine.
LONG = {"x86_64": {"backports bzImage", "machine acpi=off", "socket", "save backports", "qemu", "qemu backports", "qemu acpi=off",
                   "qemu nolapic"},
        "aarch64": {"backports", "panic", "save GICv2", "9 on a GICv2", "254 processors"}}[architecture()]


def make_image(folder, *options):
    """A kernel and an initramfs, which has the scripts of this folder, by tools/guest-image."""
    scripts = [f"{path}:{path.name}" for path in HERE.glob("*.sh")]
    subprocess.run([os.path.join(ROOT, "tools", "guest-image"), "--arch", architecture(), *options, "--files", *scripts,
                    "--out", str(folder)], check=True, stderr=subprocess.DEVNULL)


def compile_program(name, folder):
    """A program of this folder, for the initramfs, which has no libraries: NAME.c as `folder`/NAME, whose path it gives."""
    program = os.path.join(folder, name)
    subprocess.run([BOARD.compiler, "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, str(HERE / f"{name}.c")], check=True)
    return program


class Images:
    """Kernels and initramfs, each made once."""

    def __init__(self, folder):
        self._folder = folder

    def folder(self, flavour, programs):
        folder = self._folder / f"{flavour}-{programs or 'plain'}"
        if not folder.exists():
            make_image(folder, "--kernel", flavour, "--with", programs)
        return folder


def lines_of(text, key):
    return re.findall(rf"^{key}=(.*)$", text, re.M)


def without_time(line):
    return re.sub(r"^\[ *\d+\.\d+\] ", "", line)


@dataclasses.dataclass
class Report:
    """What the guest's init printed between its two markers (tools/bed/guest_init.sh)."""
    text: str

    def __getitem__(self, key):
        return lines_of(self.text, key)[0]

    def complaints(self):
        return [without_time(line) for line in lines_of(self.text, "dmesg")]

    def lscpu(self):
        return {key.strip(): value.strip() for key, value in (line.split(":", 1) for line in lines_of(self.text, "lscpu"))}


@dataclasses.dataclass
class Outcome:
    code: int
    output: str
    errors: str
    began: float = 0  # by the host's clock

    def check(self):
        assert self.code == 0, f"exit code {self.code}; output:\n{self.output[-3000:]}\nstderr:\n{self.errors[-4000:]}"

    @property
    def report(self):
        found = re.search(r"STRATO-REPORT-BEGIN\n(.*?)STRATO-REPORT-END\n", self.output, re.S)
        assert found, f"no report; exit code {self.code}; output:\n{self.output[-3000:]}\nstderr:\n{self.errors}"
        return Report(found[1])


def machine_arguments(run, folder):
    return ["-smp", run.smp, "-m", run.memory, "-kernel", str(folder / run.file), "-initrd", str(folder / "initramfs.cpio"),
            "-append", f"{WORDS} {run.words}".strip(), *run.extra]


def command(run, folder):
    if run.qemu:
        return ["qemu-system-x86_64", "-M", QEMU_MACHINES.get(run.machine, run.machine), "-accel", "kvm", "-cpu", "host", "-nodefaults", "-no-user-config", "-nographic",
                "-no-reboot", "-serial", "stdio", *machine_arguments(run, folder)]
    if run.scenario:
        return ["/usr/bin/python3", "-B", str(HERE / "scenarios.py"), run.scenario, str(folder), run.smp]
    ours = ["/usr/bin/python3", "-B", str(HERE / "lost_guest.py"), binary(), "-machine", run.machine, *machine_arguments(run, folder), "-serial"]
    if run.serial != "file":
        return [*ours, run.serial]
    script = (f'cd "$STRATO_SCRATCH"; {shlex.join(ours)} file,path=serial -boot-timeline timeline >&2; code=$?; '
              "cat serial; echo; cat timeline; exit $code")
    return ["sh", "-c", script]


def kvm_is_real():
    """Whether tools/with-kvm runs things without a bed."""
    if architecture() != platform.machine():
        return False
    return architecture() == "aarch64" or bool(re.search(r"^flags\s*:.*\b(vmx|svm)\b", pathlib.Path("/proc/cpuinfo").read_text(), re.M))


def emulator_failed(command, done):
    """Whether it is to be repeated: the emulator of a bed ends now and then, has a kernel fault three times over or stand still, the bed's as
    well as a guest's (tools/bed/README.md). Where KVM is real none of that is forgiven."""
    if done.returncode == BED_FAILED:
        return True
    if kvm_is_real():
        return False
    if str(command[0]).startswith("qemu-system"):  # which says nothing of a triple fault; its runs all report
        return b"STRATO-REPORT-END" not in done.stdout
    return done.returncode == TIMED_OUT or done.returncode != 0 and lost_guest.SAID.encode() in done.stderr


def in_bed(*command, limit=LIMIT, bed=()):
    """What becomes of the command under with-kvm; with options for a bed, in one of its own."""
    seconds = int(limit * SCALE)
    env = {name: value for name, value in os.environ.items() if name != "STRATO_BED" or not bed}
    own = ["--nested", *bed] if bed else []
    for _ in range(3):
        began = time.time()
        done = subprocess.run([WITH_KVM, "--timeout", str(seconds), "--arch", architecture(), *own, *command], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=2 * seconds, env=env)
        if not emulator_failed(command, done):
            break
        said = done.stderr.decode(errors="replace")[-2000:]
        warnings.warn(f"repeated after {time.time() - began:.0f} s, because the emulator failed: {shlex.join(map(str, command))}\n{said}")
    errors = re.sub(r"^bed: .*\n", "", done.stderr.decode(errors="replace"), flags=re.M)
    return Outcome(done.returncode, done.stdout.decode(errors="replace").replace("\r\n", "\n"), errors, began)


def perform(run, images):
    return in_bed(*command(run, images.folder(*run.image)), bed=run.bed)


def script(name, *arguments, limit=1200):
    """What a program of this folder printed that ran under with-kvm and succeeded."""
    outcome = in_bed("/usr/bin/python3", "-B", str(HERE / name), *arguments, limit=limit)
    outcome.check()
    return outcome.output
