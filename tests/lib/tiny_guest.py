"""Guests of a few bytes for what no program of guests/ does: machine code in an ELF file with a PVH note.

    write_pvh(path, POWER_OFF)

The code runs at 1 MiB in 32-bit protected mode without paging, EBX at the start information.
"""
import struct

BASE = 0x100000
JUMP_TO_ABSENT_MEMORY = bytes.fromhex("b8000000d0" "ffe0")  # mov $0xd0000000,%eax; jmp *%eax: nothing answers a fetch there
POWER_OFF = bytes.fromhex("66ba0006" "b034" "ee" "f4" "ebfd")  # outb 0x34 to the sleep control register; hlt for ever
HALT = bytes.fromhex("f4" "ebfd")


def out_byte(port, value):
    """Code that writes `value` to an I/O port."""
    return b"\x66\xba" + struct.pack("<H", port) + bytes([0xb0, value, 0xee])


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


def write_pvh(path, code):
    with open(path, "wb") as file:
        file.write(pvh_image(code))
    return str(path)
