"""The QEMU that emulates a bed: Debian's backport where the system's own is older, unpacked into the cache and not installed.

QEMU 7.2 of Debian 12 takes half as long again for a guest in a bed as 10.0 (medians of 15 boots with two processors, under load, 18 and 11 s). What guests
are compared with stays the system's own.
"""

import json
import re

from arch import host
from packages import Failure, cache_dir, cache_lock, ensure_programs, find_program, private_apt, run, say, unpack, updated

SUITE = "bookworm-backports"
NEWER = 10  # the backport's major version
PACKAGES = {"x86_64": ("qemu-system-x86", "qemu-system-data", "seabios"), "aarch64": ("qemu-system-arm", "qemu-system-data")}


def of(arch):
    """The first words of its command line."""
    program = f"qemu-system-{arch.name}"
    ensure_programs(f"bed-{arch.name}", program)  # and the libraries that the backport needs as well
    own = find_program(program)
    if major_version([own]) >= NEWER:
        return [own]
    trees = backport(arch)
    if not trees:
        return [own]
    data = [tree / "usr/share" / name for tree in trees[1:] for name in ("qemu", "seabios")]
    return [trees[0] / "usr/bin" / program, *(word for folder in data if folder.exists() for word in ("-L", folder))]


def major_version(command):
    said = run([*command, "--version"]).decode()
    found = re.search(r"version (\d+)\.", said)
    if not found:
        raise Failure(f"{command[0]}: no version in {said.strip()}")
    return int(found[1])


def backport(arch):
    """The folders that its packages are unpacked in, the program's first; none where the suite cannot be had. Remove the cache to look again."""
    folder = cache_dir() / "emulators"
    folder.mkdir(exist_ok=True)
    choice = folder / f"{arch.name}.json"
    with cache_lock(f"emulator-{arch.name}"):
        if not choice.exists():
            choice.write_text(json.dumps(fetch(PACKAGES[arch.name], folder)) + "\n")
        return [folder / tree for tree in json.loads(choice.read_text())]


def fetch(names, folder):
    trees = []
    try:
        say(f"reading the package list of {SUITE}")
        apt = updated(private_apt(host().debian, SUITE))
        for name in names:
            found = apt.newest(name, re.escape(name))
            if not found:
                raise Failure(f"{SUITE} has no {name}")
            trees.append("_".join(found))
            if not (folder / trees[-1]).exists():
                unpack(apt, *found, folder / trees[-1])
    except Failure as failure:
        say(f"no QEMU of {SUITE}, so the system's own: {failure}")
        return []
    return trees
