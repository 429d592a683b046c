"""platform_harness: Arm's interrupt controllers, counter and vCPUs over a save into a new VM, a pause and a reset, without machine/."""
import os
import subprocess

import pytest
from vmm import binary, guest, only_on

pytestmark = only_on("aarch64", "what KVM keeps of an Arm machine")


def harness(kernel, *script):
    """The lines of the guest and of the harness's steps. A GICv2 host skips what needs a GICv3."""
    program = os.path.join(os.path.dirname(binary()), "platform_harness")
    done = subprocess.run([program, guest(kernel), *script], capture_output=True, text=True, timeout=900)
    if "has only GICv2" in done.stderr or "this host has no GICv3" in done.stderr:
        pytest.skip("this host has no GICv3")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("device, event", [(0, 0), (300, 31), (65535, 1)])
def test_a_message_by_irqfd_arrives_before_and_after_a_restore(device, event):
    raise_it = f"raise={device}:{event}"
    lines = harness("its", "gic=3", f"append=device={device} event={event} count=4", "expect=its=ready", raise_it, "expect=count=1", raise_it,
                    "expect=count=2", "restore", raise_it, "expect=count=3", "restore", raise_it, "expect=count=4", "expect=its=end", "end")
    assert [line for line in lines if line.startswith("lpi=")] == [f"lpi={8193 + event} count={n}" for n in (1, 2, 3, 4)]


def test_an_its_forgets_its_mappings_at_a_reset():
    lines = harness("its", "gic=3", "append=count=1", "expect=its=ready", "raise=0:0", "expect=count=1", "expect=its=end", "end", "reset",
                    "expect=its=ready", "raise=0:0", "expect=count=1", "end")
    assert lines.count("lpi=8193 count=1") == 2


def test_timer_interrupts_go_on_after_a_restore_a_pause_and_a_reset():
    lines = harness("timer", "cpus=2", "expect=tick=3", "restore", "expect=tick=", "pause=2", "expect=tick=", "reset", "expect=timer=start",
                    "expect=tick=3", "restore", "expect=tick=")
    ticks = [int(line.removeprefix("tick=")) for line in lines if line.startswith("tick=")]
    again = ticks.index(min(ticks[1:]), 1)  # where the reset began anew
    assert ticks[:again] == sorted(ticks[:again]) and ticks[again:] == sorted(ticks[again:])


def test_a_timer_interrupt_that_is_pending_at_a_save_arrives_after_the_restore():
    # So short a period that one is nearly always pending.
    lines = harness("timer", "cpus=2", "append=period-ms=1", "expect=tick=3", *["restore", "expect=tick="] * 6)
    ticks = [int(line.removeprefix("tick=")) for line in lines if line.startswith("tick=")]
    assert len(ticks) > 9 and ticks == sorted(set(ticks))


def test_vcpus_of_both_regions_of_redistributors_take_their_interrupts_after_a_restore_before_they_are_started():
    lines = harness("smp", "gic=3", "cpus=130", "ram=128", "restore", "end")
    assert sum(line.startswith("cpu=") and "sgi=1" in line for line in lines) == 130
