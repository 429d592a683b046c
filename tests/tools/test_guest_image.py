"""tools/guest-image: what it makes boots under QEMU's microvm and says what it sees."""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = str(ROOT / "tools" / "guest-image")
WITH_KVM = str(ROOT / "tools" / "with-kvm")
MACHINE = ["qemu-system-x86_64", "-M", "microvm,acpi=on,rtc=off", "-accel", "kvm", "-cpu", "host", "-m", "256", "-smp", "2", "-nodefaults",
           "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]


def make(out, *options):
    return subprocess.run([TOOL, "--out", str(out), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=1200)


def listing(out):
    archive = (out / "initramfs.cpio").read_bytes()
    return subprocess.run(["cpio", "--list", "--quiet"], input=archive, stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")


def test_an_image_has_both_kernels_and_the_modules_in_order_of_loading(tmp_path):
    assert make(tmp_path, "--modules", "virtio_blk").returncode == 0
    assert (tmp_path / "bzImage").read_bytes()[0x202:0x206] == b"HdrS"
    assert (tmp_path / "vmlinux").read_bytes()[:4] == b"\x7fELF"
    assert json.loads((tmp_path / "image.json").read_text())["kernel"].endswith("-cloud-amd64")
    names = listing(tmp_path)
    assert {"init", "bin/busybox", "dev/console", "modules/order", "modules/virtio_blk.ko"} <= set(names)
    assert names.index("modules/virtio.ko") < names.index("modules/virtio_blk.ko")


def test_the_same_request_gives_the_same_files(tmp_path):
    for name in ("first", "second"):
        assert make(tmp_path / name).returncode == 0
    for file in ("bzImage", "vmlinux", "initramfs.cpio"):
        assert (tmp_path / "first" / file).samefile(tmp_path / "second" / file)


def test_a_program_brings_its_libraries(tmp_path):
    assert make(tmp_path, "--with", "lscpu").returncode == 0
    assert {"usr/bin/lscpu", "lib64/ld-linux-x86-64.so.2"} <= set(listing(tmp_path))


@pytest.mark.parametrize("options, named", [
    (["--modules", "no_such_module"], "no_such_module"),
    (["--with", "no-such-program"], "no-such-program"),
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
def test_the_guest_reports_runs_a_program_and_ends(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho program ran\nexit 5\n")
    program.chmod(0o755)
    assert make(tmp_path, "--modules", "virtio_blk", "--files", f"{program}:opt/program").returncode == 0
    words = "console=ttyS0 quiet panic=-1 reboot=t strato.run=/opt/program strato.end=panic"
    command = [*MACHINE, "-kernel", str(tmp_path / "bzImage"), "-initrd", str(tmp_path / "initramfs.cpio"), "-append", words]
    done = subprocess.run([WITH_KVM, "--timeout", "400", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=1200)
    print(done.stdout)  # for the report of a failure
    lines = done.stdout.replace("\r", "").splitlines()
    report = dict(line.split("=", 1) for line in lines[lines.index("STRATO-REPORT-BEGIN") + 1:lines.index("STRATO-REPORT-END")])
    assert report["uname"].startswith("Linux 6.1.")
    assert report["nproc"] == "2"
    assert report["cpu1"] == "package:0 die:0 cluster:65535 core:1 siblings:1"
    assert "APIC" in report["acpi"].split()
    assert report["modules_failed"] == ""
    assert lines.index("program ran") + 1 == lines.index("STRATO-RUN-EXIT=5")
    assert any("Kernel panic" in line for line in lines)
