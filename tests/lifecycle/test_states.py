"""-S, stop and cont, -no-shutdown, -no-reboot, errors of KVM: what query-status and the exit code say."""
import os
import signal

import pytest
from tiny_guest import HALT, JUMP_TO_ABSENT_MEMORY, write_kernel
from vmm import QmpError, guest, only_on, run_to_end

X86 = only_on("x86_64", "the chip set of a PC, and its triple fault")
ABSENT = only_on("x86_64", "KVM gives an Arm guest that runs where nothing is an abort of its own")


def status(vmm):
    answer = vmm.qmp.command("query-status")
    assert sorted(answer) == ["running", "singlestep", "status"]
    assert answer["running"] == (answer["status"] == "running")
    assert answer["singlestep"] is False
    return answer["status"]


def test_freeze_waits_for_cont_and_the_guest_has_not_run(start_vmm):
    vmm = start_vmm("-S", kernel=guest("ending"), append="hlt")
    assert status(vmm) == "prelaunch"
    vmm.qmp.command("stop")
    assert vmm.bytes() == b""
    vmm.qmp.command("cont")
    assert vmm.qmp.wait_event("RESUME")
    vmm.wait_for("ending=hlt")
    assert status(vmm) == "running"


def test_stop_and_cont_may_be_repeated(start_vmm):
    vmm = start_vmm(kernel=guest("ending"), append="spin", smp=3)
    vmm.wait_for("ending=spin")
    for _ in range(20):
        vmm.qmp.command("stop")
        vmm.qmp.command("stop")
        assert status(vmm) == "paused"
        vmm.qmp.command("cont")
        vmm.qmp.command("cont")
        assert status(vmm) == "running"
    names = [event["event"] for event in vmm.qmp.events]
    assert names == ["STOP", "RESUME"] * 20


def test_a_paused_guest_uses_no_processor(start_vmm):
    vmm = start_vmm(kernel=guest("ending"), append="spin")
    vmm.wait_for("ending=spin")
    vmm.qmp.command("stop")
    before = cpu_seconds(vmm.pid)
    for _ in range(100):
        status(vmm)
    os.waitid(os.P_PID, vmm.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    assert cpu_seconds(vmm.pid) - before < 0.5


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("option", [["-no-shutdown"], ["-action", "shutdown=pause"]])
def test_no_shutdown_keeps_a_dead_guest_that_can_not_go_on(start_vmm, option):
    vmm = start_vmm("-S", *option, kernel=guest("ending"), append="poweroff")
    vmm.qmp.command("cont")
    vmm.qmp.wait_status("shutdown")
    event = vmm.qmp.wait_event("SHUTDOWN")
    assert event["data"] == {"guest": True, "reason": "guest-shutdown"}
    with pytest.raises(QmpError) as refused:
        vmm.qmp.command("cont")
    assert "shutdown" in str(refused.value)
    assert vmm.process.poll() is None
    assert status(vmm) == "shutdown"
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


def test_no_shutdown_yields_to_a_signal(start_vmm):
    vmm = start_vmm("-no-shutdown", kernel=guest("ending"), append="poweroff")
    vmm.qmp.wait_status("shutdown")
    vmm.signal(signal.SIGTERM)
    assert vmm.wait() == 0


def test_no_reboot_and_no_shutdown_pause_at_a_reset(start_vmm):
    vmm = start_vmm("-S", "-no-reboot", "-no-shutdown", kernel=guest("ending"), append="reset")
    vmm.qmp.command("cont")
    vmm.qmp.wait_status("shutdown")
    assert vmm.qmp.wait_event("SHUTDOWN")["data"]["reason"] == "guest-reset"
    assert vmm.text() == "ending=reset\n"
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


@pytest.mark.parametrize("word", ["reset", *(pytest.param(word, marks=X86) for word in ("kbc", "triple", "cf9"))])
def test_a_restarted_guest_finds_all_as_at_first(start_vmm, word):
    """Not only alive: what the boot code finds in memory and registers is the same."""
    vmm = start_vmm("-S", "-action", "reboot=reset", kernel=guest("ending"), append=word, smp=2)
    vmm.qmp.command("cont")
    vmm.wait_for(rf"(ending={word}\r?\n){{5}}")
    vmm.qmp.wait_event("RESET")
    vmm.qmp.command("stop")
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    assert set(vmm.text().splitlines()[:5]) == {f"ending={word}"}


@pytest.mark.parametrize("number, name", [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT"), (signal.SIGHUP, "SIGHUP")])
def test_a_signal_is_told_to_qmp_and_to_the_user(start_vmm, number, name):
    vmm = start_vmm(kernel=guest("ending"), append="spin")
    vmm.wait_for("ending=spin")
    assert status(vmm) == "running"
    vmm.signal(number)
    assert vmm.qmp.wait_event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-signal"}
    assert vmm.wait() == 0, name
    assert vmm.stderr() == f"Received kill signal, signal number: {int(number)}\n"


@pytest.mark.parametrize("when", ["before the start", "when paused"])
def test_a_signal_ends_a_vm_that_does_not_run(start_vmm, when):
    vmm = start_vmm(*(["-S"] if when == "before the start" else []), kernel=guest("ending"), append="hlt")
    if when == "when paused":
        vmm.wait_for("ending=hlt")
        vmm.qmp.command("stop")
    else:
        assert status(vmm) == "prelaunch"
    vmm.signal(signal.SIGTERM)
    assert vmm.wait() == 0


@ABSENT
def test_an_instruction_that_kvm_can_not_execute_is_reported_with_registers(start_vmm, tmp_path):
    vmm = start_vmm("-S", kernel=write_kernel(tmp_path / "guest", JUMP_TO_ABSENT_MEMORY))
    vmm.qmp.command("cont")
    assert vmm.qmp.wait_event("SHUTDOWN")["data"]["guest"] is False
    assert vmm.wait() == 1
    report = vmm.stderr()
    assert "vCPU 0" in report and "rip 00000000d0000000" in report and "cr0 " in report
    assert vmm.bytes() == b""


@ABSENT
def test_a_kvm_error_is_an_error_of_ours_also_with_no_shutdown(start_vmm, tmp_path):
    vmm = start_vmm("-no-shutdown", "-no-reboot", kernel=write_kernel(tmp_path / "guest", JUMP_TO_ABSENT_MEMORY))
    assert vmm.wait() == 1


def test_a_guest_with_interrupts_off_for_ever_can_be_ended(start_vmm, tmp_path):
    vmm = start_vmm(kernel=write_kernel(tmp_path / "guest", HALT), smp=4)
    vmm.qmp.wait_status("running")
    vmm.qmp.command("quit")
    assert vmm.qmp.wait_event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-qmp-quit"}
    assert vmm.wait() == 0


def test_machine_none_answers_qmp_and_ends_in_order(start_vmm):
    vmm = start_vmm(machine="none", serial=None)
    assert status(vmm) == "prelaunch"
    assert {"name": "query-status"} in vmm.qmp.command("query-commands")
    with pytest.raises(QmpError):
        vmm.qmp.command("migrate", uri="file:/nowhere")
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    assert (vmm.bytes(), vmm.stderr()) == (b"", "")


def test_no_qmp_channel_is_needed(start_vmm):
    assert run_to_end(start_vmm, kernel=guest("hello"), qmp=False).bytes() == b"H"


def test_twenty_vms_started_at_once_all_answer(start_vmm):
    vmms = [start_vmm(kernel=guest("ending"), append="hlt", memory_mib=32, smp=2) for _ in range(20)]
    for vmm in vmms:
        vmm.wait_for("ending=hlt")
        assert status(vmm) == "running"
    for vmm in vmms:
        vmm.qmp.command("quit")
    assert [vmm.wait() for vmm in vmms] == [0] * 20
