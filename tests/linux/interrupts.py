"""A disk whose interrupt comes from the second I/O APIC: run by tools/with-kvm as `interrupts.py SCENARIO IMAGE`."""
import os
import re

from guests import BOARD, MIB, Disks, end, perform, sparse, start_script

DEVICES = 64
PINS_OF_THE_FIRST = 24  # an I/O APIC; the numbers of an Arm machine begin beyond


def moved(image, folder):
    """The interrupt is led from CPU to CPU under I/O, and none is lost. The guest has as many devices as we promise."""
    disks = Disks()
    disks.add(f"{image}/programs.ext4", "readonly=on,direct=off")
    disks.add(sparse(folder / "disk", 8 * MIB))
    others = ["-object", "rng-random,id=source,filename=/dev/urandom"]
    for number in range(DEVICES - 2):
        others += ["-device", f"virtio-rng-device,rng=source,id=rng{number}"]
    seconds = 60 if os.environ.get("STRATO_LONG") else 10
    # The disk that is written comes last: it has the highest GSI.
    text = end(start_script(image, "interrupts.sh", *disks.options[:4], *others, *disks.options[4:], words=f"strato.seconds={seconds}",
                            smp=2))
    assert f"devices={DEVICES} with a driver={DEVICES}\n" in text, text[-3000:]
    lines = re.findall(rf"^(before|after) +\d+: +(\d+) +(\d+) +{BOARD.interrupt} +virtio63$", text, re.M)
    assert [line[0] for line in lines] == ["before", "after"], text[-3000:]
    (_, *before, pin), (_, *after, _) = lines
    assert int(pin) >= PINS_OF_THE_FIRST, lines
    for first, last in zip(before, after):
        assert int(last) - int(first) > 20, f"one CPU had too few: {lines}"
    passes, moves = re.search(r"^passes=(\d+) moves=(\d+)$", text, re.M).groups()
    assert int(passes) > 0 and int(moves) > 20, text[-3000:]
    # Not that a busy host made it wait.
    assert not re.search(r"fio failed|^complaint=.*(nobody cared|blocked for|I/O error)", text, re.M), text[-3000:]
    print(f"{passes} passes, {moves} moves, {lines}")


if __name__ == "__main__":
    perform(globals())
