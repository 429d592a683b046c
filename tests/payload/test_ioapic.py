"""More devices than the in-kernel I/O APIC has pins: those of the second one lose no interrupt, whatever is done to their entries."""
import os
import re
import time

import pytest
from vmm import guest, only_on, run_to_end

pytestmark = only_on("x86_64", "an Arm machine has interrupts enough in its GIC")

SOURCE = ("-object", "rng-random,id=rng0,filename=/dev/urandom")


def devices(count):
    return (*SOURCE, *(word for n in range(count) for word in ("-device", f"virtio-rng-device,rng=rng0,id=d{n}")))


def check(text, count, interrupts):
    assert f"devices={count} second={max(0, count - 18)}\n" in text
    assert f"interrupts={interrupts} lost=0 extra=0 astray=0\n" in text, text


@pytest.mark.parametrize("count", [18, 19, 64, 82])
def test_each_device_has_an_interrupt(start_vmm, count):
    vmm = run_to_end(start_vmm, *devices(count), kernel=guest("ioapic"), append="rounds=1")
    check(vmm.text(), count, count)
    assert vmm.stderr() == ""


@pytest.mark.parametrize("smp", [1, 2])
def test_no_interrupt_is_lost_while_entries_are_masked_and_moved(start_vmm, smp):
    rounds = 300 if os.environ.get("STRATO_LONG") else 10
    vmm = start_vmm(*devices(64), kernel=guest("ioapic"), append=f"rounds={rounds}", smp=smp)
    assert vmm.wait(timeout=600) == 0
    check(vmm.text(), 64, 64 * rounds)
    assert vmm.stderr() == ""


def save(vmm, folder):
    vmm.qmp.command("migrate", uri=f"file:{folder}")
    while vmm.qmp.command("query-migrate").get("status") not in ("completed", "failed"):
        time.sleep(0.02)
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


def test_an_interrupt_that_is_masked_when_the_machine_is_saved_comes_after_the_restore(start_vmm, tmp_path):
    start = (*devices(24), "-device", "virtio-rng-device,rng=rng0,id=last")
    first = start_vmm(*start, kernel=guest("ioapic"), append="rounds=1 hold")
    first.wait_for(r"held=1\n")
    first.qmp.command("stop")
    save(first, tmp_path / "saved")
    check(first.text(), 25, 25)

    second = start_vmm("-incoming", f"file:{tmp_path}/saved", *start, kernel=guest("ioapic"))
    second.write(b"x")
    assert second.wait() == 0, second.stderr()
    assert "released=1\n" in second.text()


def test_a_guest_that_resets_finds_all_entries_masked(start_vmm):
    vmm = start_vmm(*devices(20), "-action", "reboot=reset", kernel=guest("ioapic"), append="rounds=2 reset")
    vmm.wait_for(r"(?s)(astray=0\n.*){3}")
    assert set(re.findall(r"interrupts=.*", vmm.text())) == {"interrupts=40 lost=0 extra=0 astray=0"}


def test_the_device_that_gets_no_interrupt_is_named(start_vmm):
    vmm = start_vmm(*devices(83), kernel=guest("ioapic"))
    assert vmm.wait() == 1
    assert "-device d82: no interrupt is left for it: this machine has 82" in vmm.stderr()


def test_a_command_line_that_is_too_long_says_what_helps(start_vmm):
    vmm = start_vmm(*devices(11), kernel=guest("ioapic.bzimage"), append="x" * 2047)
    assert vmm.wait() == 1
    assert "-machine virtio-cmdline=off leaves these out" in vmm.stderr()
    vmm = run_to_end(start_vmm, *devices(11), kernel=guest("ioapic.bzimage"), append="x" * 2047, machine="microvm,virtio-cmdline=off")
    check(vmm.text(), 11, 44)
