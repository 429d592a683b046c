"""timer: interrupts go on through pause, resume, save and restore; none is lost, repeated or made up."""
import re
import time

import pytest
from vmm import SCALE, TIMEOUT, architecture, guest

X86 = architecture() == "x86_64"
MODES = ["periodic", "oneshot", "deadline"] if X86 else ["virtual"]
STATE = r"state tick=\d+ ram=(0x[0-9a-f]+) (?:apic|mpidr)=0 clock=(\d+)\n"


def ticks(text):
    return [int(n) for n in re.findall(r"^tick=(\d+)$", text, re.M)]


def start_timer(start_vmm, append, *extra, **options):
    vmm = start_vmm(*extra, kernel=guest("timer"), append=f"period-ms=50 {append}", **options)
    vmm.wait_for(r"tick=3\n")
    return vmm


@pytest.mark.parametrize("apic", ["", "x2apic"] if X86 else [""])
@pytest.mark.parametrize("mode", MODES)
def test_timer_interrupts_arrive(start_vmm, mode, apic):
    vmm = start_timer(start_vmm, f"mode={mode} {apic}")
    vmm.wait_for(r"tick=6\n")
    vmm.write(b"q")
    assert vmm.wait() == 0
    assert f"timer=start mode={mode}" in vmm.text()


@pytest.mark.parametrize("mode", MODES)
def test_a_paused_guest_is_still_and_goes_on_where_it_was(start_vmm, mode):
    vmm = start_timer(start_vmm, f"mode={mode}")
    vmm.qmp.command("stop")
    assert vmm.qmp.command("query-status")["status"] == "paused"
    time.sleep(0.2)  # what was already in the pipe
    paused = vmm.text()
    time.sleep(0.5)
    assert vmm.text() == paused
    vmm.qmp.command("cont")
    vmm.wait_for(rf"tick={ticks(paused)[-1] + 5}\n")
    seen = ticks(vmm.text())
    assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("mode", MODES)
def test_a_guest_saved_and_restored_counts_on(start_vmm, tmp_path, mode):
    saved = tmp_path / "saved"
    first = start_timer(start_vmm, f"mode={mode}", memory_mib=32)
    first.write(b"s")
    state = first.wait_for(STATE)
    first.qmp.command("stop")
    first.qmp.command("migrate", uri=f"file:{saved}")
    assert wait_migration(first) == "completed"
    first.qmp.command("quit")
    assert first.wait() == 0
    last = ticks(first.text())[-1]

    second = start_vmm("-incoming", f"file:{saved}", kernel=guest("timer"), append=f"period-ms=50 mode={mode}", memory_mib=32)
    if second.qmp.command("query-status")["status"] != "running":
        second.qmp.command("cont")
    second.wait_for(rf"tick={last + 4}\n")
    second.write(b"s")
    again = second.wait_for(STATE)
    assert again[1] == state[1]
    before, after = int(state[2]), int(again[2])
    assert before < after < before + 10**9 * TIMEOUT * SCALE, "the clock"
    both = first.text() + second.text()  # the line that was being written when it stopped goes on in the second process
    assert both.count("timer=start") == 1
    seen = ticks(both)
    assert seen == list(range(1, len(seen) + 1))


def wait_migration(vmm):
    for _ in range(3000):
        status = vmm.qmp.command("query-migrate").get("status")
        if status in ("completed", "failed"):
            return status
        time.sleep(0.02)
    return "no end"
