"""What Debian's Linux makes of our microVM on each architecture; with this the tests are the same for all."""
import dataclasses

from vmm import architecture


@dataclasses.dataclass(frozen=True)
class Board:
    console: str  # the serial port
    kernel: str  # the file of tools/guest-image that starts soonest
    clock: str  # the clock source
    interrupt: str  # a pattern for what /proc/interrupts has between the counts and the name of a virtio device
    interrupts_from: int  # the number there of the first virtio device
    progress: str  # where the boot timeline listens (strato.port=)
    moves_kernel: bool  # whether that kernel lies elsewhere at each boot
    compiler: str
    dax: str  # a word for mount, where the kernel has that (it needs CONFIG_ZONE_DEVICE)


BOARD = {
    "x86_64": Board(console="ttyS0", kernel="vmlinux", clock="kvm-clock", interrupt=r"IO-APIC +(\d+)-edge", interrupts_from=5,
                    progress="0x680", moves_kernel=False, compiler="gcc", dax=",dax=always"),
    "aarch64": Board(console="ttyAMA0", kernel="Image", clock="arch_sys_counter", interrupt=r"(?:GICv3|GIC-0) +(\d+) Edge", interrupts_from=48,
                     progress="0x9030000", moves_kernel=True, compiler="aarch64-linux-gnu-gcc", dax=""),
}[architecture()]
