"""Debian's kernel finds a virtio-rng device, by ACPI, and reads random bytes from it."""
import os
import re
import subprocess

import pytest
from vmm import ROOT, SCALE, binary

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = "console=ttyS0 quiet panic=-1 strato.run=/hwrng.sh strato.end=reboot"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("image"))
    subprocess.run([os.path.join(ROOT, "tools", "guest-image"), "--kernel", "cloud", "--modules", "virtio_mmio,virtio_rng",
                    "--files", f"{HERE}/hwrng.sh:hwrng.sh", "--out", folder], check=True, stderr=subprocess.DEVNULL)
    return folder


def test_the_kernel_reads_random_bytes(bed, image):
    done = subprocess.run([os.path.join(ROOT, "tools", "with-kvm"), binary(), "-machine", "microvm", "-m", "256", "-smp", "2",
                           "-kernel", f"{image}/vmlinux", "-initrd", f"{image}/initramfs.cpio", "-append", WORDS,
                           "-serial", "stdio", "-object", "rng-random,id=rng0,filename=/dev/urandom",
                           "-device", "virtio-rng-device,rng=rng0,id=rng0dev"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400 * SCALE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert re.search(r"^rng_available=virtio_rng\.0", done.stdout, re.M), done.stdout[-3000:]
    first, second = re.findall(r"^hwrng\.\d=([0-9a-f]{128})\r?$", done.stdout, re.M)
    assert first != second
    assert re.search(r"^interrupts=.*IO-APIC +5-edge +virtio0", done.stdout, re.M)
