"""tools/guest-image: what it makes boots under QEMU and says what it sees."""

import gzip
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = str(ROOT / "tools" / "guest-image")
WITH_KVM = str(ROOT / "tools" / "with-kvm")
HOST = os.uname().machine
ARCHES = list(dict.fromkeys([HOST, "aarch64"]))
KERNELS = {"x86_64": ["bzImage", "vmlinux"], "aarch64": ["Image", "Image.gz"]}
MAGIC = {"bzImage": (0x202, b"HdrS"), "vmlinux": (0, b"\x7fELF"), "Image": (0x38, b"ARM\x64"), "Image.gz": (0, b"\x1f\x8b")}
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
LOADER = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}
MACHINE = {"x86_64": ["-M", "microvm,acpi=on,rtc=off"], "aarch64": ["-M", "virt,gic-version=3"]}
MACHINE_OPTIONS = ["-accel", "kvm", "-cpu", "host", "-m", "256", "-smp", "2", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                   "-serial", "stdio"]
CONSOLE = {"x86_64": "ttyS0 reboot=t", "aarch64": "ttyAMA0"}
# Where nothing minds a byte: a port that is free, and the place of a virtio device that QEMU leaves empty.
PORT = {"x86_64": "0x680,2", "aarch64": "0x0a000000,2"}
PROCESSOR = {"x86_64": "package:0 die:0 cluster:65535 core:1 siblings:1", "aarch64": "package:0 die:0 cluster:0 core:1 siblings:1"}


def make(out, *options):
    return subprocess.run([TOOL, "--out", str(out), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=1200)


def listing(out):
    archive = (out / "initramfs.cpio").read_bytes()
    return subprocess.run(["cpio", "--list", "--quiet"], input=archive, stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")


@pytest.mark.parametrize("arch", ARCHES)
def test_an_image_has_both_kernels_and_the_modules_in_order_of_loading(tmp_path, arch):
    assert make(tmp_path, "--arch", arch, "--modules", "virtio_blk").returncode == 0
    for name in KERNELS[arch]:
        offset, magic = MAGIC[name]
        assert (tmp_path / name).read_bytes()[offset:offset + len(magic)] == magic
    assert json.loads((tmp_path / "image.json").read_text())["kernel"].endswith(f"-cloud-{DEBIAN[arch]}")
    names = listing(tmp_path)
    assert {"init", "bin/busybox", "bin/mark", "dev/console", "modules/order", "modules/virtio_blk.ko"} <= set(names)
    assert names.index("modules/virtio.ko") < names.index("modules/virtio_blk.ko")


def test_the_compressed_arm64_kernel_is_the_other_one(tmp_path):
    assert make(tmp_path, "--arch", "aarch64").returncode == 0
    assert gzip.decompress((tmp_path / "Image.gz").read_bytes()) == (tmp_path / "Image").read_bytes()


@pytest.mark.parametrize("arch", ARCHES)
def test_the_same_request_gives_the_same_files(tmp_path, arch):
    for name in ("first", "second"):
        assert make(tmp_path / name, "--arch", arch).returncode == 0
    for file in (*KERNELS[arch], "initramfs.cpio"):
        assert (tmp_path / "first" / file).samefile(tmp_path / "second" / file)


@pytest.mark.parametrize("arch", ARCHES)
def test_a_program_brings_its_libraries(tmp_path, arch):
    assert make(tmp_path, "--arch", arch, "--with", "lscpu").returncode == 0
    names = listing(tmp_path)
    assert {"usr/bin/lscpu", LOADER[arch]} <= set(names)
    assert any(name.endswith(f"lib/{arch}-linux-gnu/libc.so.6") for name in names)


@pytest.mark.parametrize("options, named", [
    (["--modules", "no_such_module"], "no_such_module"),
    (["--with", "no-such-program"], "no-such-program"),
    (["--arch", "aarch64", "--with", "no-such-program"], "no-such-program"),
    (["--arch", "aarch64", "--modules", "no_such_module"], "no_such_module"),
    (["--init", "/no/such/init"], "/no/such/init"),
    (["--files", "/no/such/file:etc/file"], "/no/such/file"),
    (["--files", "nocolon"], "nocolon"),
])
def test_a_bad_request_is_named(tmp_path, options, named):
    done = make(tmp_path / "image", *options)
    assert done.returncode != 0
    assert done.stdout == ""
    assert named in done.stderr
    assert not (tmp_path / "image" / "initramfs.cpio").exists()


@pytest.mark.skipif(not os.environ.get("STRATO_LONG"), reason="boots Linux: only in tools/test --long")
@pytest.mark.parametrize("arch", ARCHES)
def test_the_guest_reports_runs_a_program_and_ends(tmp_path, arch):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho program ran\nexit 5\n")
    program.chmod(0o755)
    assert make(tmp_path, "--arch", arch, "--modules", "virtio_blk", "--files", f"{program}:opt/program").returncode == 0
    words = f"console={CONSOLE[arch]} quiet panic=-1 strato.port={PORT[arch]} strato.run=/opt/program strato.end=panic"
    command = [f"qemu-system-{arch}", *MACHINE[arch], *MACHINE_OPTIONS, "-kernel", str(tmp_path / KERNELS[arch][0]),
               "-initrd", str(tmp_path / "initramfs.cpio"), "-append", words]
    environment = {name: value for name, value in os.environ.items() if name != "STRATO_BED"}  # which is of one architecture
    done = subprocess.run([WITH_KVM, "--arch", arch, "--timeout", "400", *command], env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, timeout=1200)
    print(done.stdout)  # for the report of a failure
    lines = done.stdout.replace("\r", "").splitlines()
    reported = lines[lines.index("STRATO-REPORT-BEGIN") + 1:lines.index("STRATO-REPORT-END")]
    report = dict(line.split("=", 1) for line in reported if "=" in line)  # a kernel on a busy host complains in between
    assert report["uname"].startswith("Linux 6.1.")
    assert report["nproc"] == "2"
    assert report["cpu1"] == PROCESSOR[arch]
    assert ("APIC" in report["acpi"].split()) == (arch == "x86_64")
    assert report["modules_failed"] == ""
    assert lines.index("program ran") + 1 == lines.index("STRATO-RUN-EXIT=5")
    assert any("Kernel panic" in line for line in lines)
    assert "not written" not in done.stdout
