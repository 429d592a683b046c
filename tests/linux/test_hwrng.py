"""Debian's kernel finds a virtio-rng device, by ACPI or the device tree, and reads random bytes from it."""
import re

from boards import BOARD
from runs import WORDS, in_bed
from vmm import binary


def test_the_kernel_reads_random_bytes(virtio_image):
    done = in_bed(binary(), "-machine", "microvm", "-m", "256", "-smp", "2", "-kernel", f"{virtio_image}/{BOARD.kernel}",
                  "-initrd", f"{virtio_image}/initramfs.cpio", "-append", f"{WORDS} strato.run=/hwrng.sh strato.end=reboot", "-serial", "stdio",
                  "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng0,id=rng0dev")
    done.check()
    assert re.search(r"^rng_available=virtio_rng\.0", done.output, re.M), done.output[-3000:]
    first, second = re.findall(r"^hwrng\.\d=([0-9a-f]{128})$", done.output, re.M)
    assert first != second
    assert re.search(rf"^interrupts=.*{BOARD.interrupt} +virtio0", done.output, re.M)[1] == str(BOARD.interrupts_from)
