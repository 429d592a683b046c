"""The architectures of beds and guests: what they are called, and by whom."""

import dataclasses
import os

from packages import ensure_programs, find_program


@dataclasses.dataclass(frozen=True)
class Arch:
    name: str  # as uname has it
    debian: str  # as Debian has it

    @property
    def is_hosts(self):
        return self.name == os.uname().machine

    def compiler(self):
        """The path of the gcc for it, installed if need be."""
        program = f"{self.name}-linux-gnu-gcc"  # Debian's own gcc has this name as well
        ensure_programs("bed" if self.is_hosts else f"cross-{self.name}", program)
        return find_program(program)


ARCHES = {arch.name: arch for arch in (Arch("x86_64", "amd64"), Arch("aarch64", "arm64"))}


def host():
    return ARCHES[os.uname().machine]
