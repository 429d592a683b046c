"""Guests of a few bytes for what no program of guests/ does: machine code in a kernel file.

    write_kernel(path, POWER_OFF)

On x86_64 it is an ELF file with a PVH note, whose code runs at 1 MiB in 32-bit protected mode without paging, EBX at the start
information. On aarch64 it is an Image, whose code runs in EL1 without the MMU, X0 at the device tree.
"""
import struct

from vmm import architecture

BASE = 0x100000
JUMP_TO_ABSENT_MEMORY = bytes.fromhex("b8000000d0" "ffe0")  # mov $0xd0000000,%eax; jmp *%eax: nothing answers a fetch there
X86_POWER_OFF = bytes.fromhex("66ba0006" "b034" "ee" "f4" "ebfd")  # outb 0x34 to the sleep control register; hlt for ever
X86_HALT = bytes.fromhex("f4" "ebfd")


def instructions(*words):
    return struct.pack(f"<{len(words)}I", *words)


if architecture() == "x86_64":
    POWER_OFF, HALT = X86_POWER_OFF, X86_HALT
else:
    POWER_OFF = instructions(0x52800100, 0x72b08000, 0xd4000002)  # mov w0, #8; movk w0, #0x8400, lsl #16; hvc #0: SYSTEM_OFF
    HALT = instructions(0xd503207f, 0x17ffffff)  # wfi; b .-4


def mark(value):
    """Code that tells the boot timeline, at port 0x680 or at 0x9030000, of a stage."""
    if architecture() == "x86_64":
        return b"\x66\xba" + struct.pack("<H", 0x680) + bytes([0xb0, value, 0xee])
    return instructions(0xd2a12061, 0x52800000 | value << 5, 0x39000020)  # mov x1, #0x9030000; mov w0, #value; strb w0, [x1]


def for_ever(code):
    """Code that does it again and again."""
    if architecture() == "x86_64":
        return code + bytes([0xeb, 256 - len(code) - 2])
    return code + instructions(0x14000000 | (1 << 26) - len(code) // 4)


def pvh_image(code, entry=BASE, base=BASE):
    """An ELF file that is loaded at `base` and started at `entry`."""
    note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", entry)
    headers = 64 + 2 * 56
    note_at, code_at = headers, headers + len(note)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, code_at, base, base, len(code), len(code), 1)
    noted = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(note), len(note), 4)
    return elf + load + noted + note + code


def arm64_image(code):
    branch, anywhere = 0x14000010, 0xa  # over the header; pages of 4 KiB, at any address
    header = struct.pack("<IIQQQQQQ4sI", branch, 0, 0, 4096, anywhere, 0, 0, 0, b"ARM\x64", 0)
    return header + code


def write_kernel(path, code):
    with open(path, "wb") as file:
        file.write(pvh_image(code) if architecture() == "x86_64" else arm64_image(code))
    return str(path)
