"""How a Linux guest ends, starts again, is talked to, saved and restored."""
import pytest
from runs import FIRST
from vmm import architecture


REBOOTS = {
    "x86_64": {"vmlinux": "as ACPI-reduced machines do by default", "backports": "reboot=a", "backports bzImage": "reboot=k",
               "topology": "reboot=t", "acpi=off": "acpi=off reboot=t", "machine acpi=off": "-machine acpi=off reboot=t"},
    "aarch64": {"Image.gz": "by PSCI", "18 processors": "with 18 processors", "GICv2": "with a GICv2", "backports": "by PSCI from 6.12"},
}[architecture()]


@pytest.mark.run(FIRST)
def test_power_off(run):
    run.check()
    assert "reboot: Power down" in run.output


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.run(name), id=how) for name, how in REBOOTS.items()])
def test_a_reboot_ends_the_process(name, run):
    run.check()
    assert "Restarting system" in run.output
    assert run.output.count("STRATO-REPORT-BEGIN") == 1


@pytest.mark.run("panic")
def test_a_panic_with_panic_minus_one_ends_the_process(run):
    run.check()
    assert "Kernel panic - not syncing" in run.output


@pytest.mark.run("restart")
def test_action_reboot_reset_boots_again_and_finds_the_same_machine(run):
    run.check()


@pytest.mark.run("pty")
def test_a_shell_on_a_pty(run):
    run.check()


@pytest.mark.run("socket")
def test_a_shell_on_a_unix_socket(run):
    run.check()


@pytest.mark.run("9 on a GICv2")
def test_more_processors_than_the_hosts_interrupt_controller_serves_are_refused(run):
    run.check()


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.run(name), id=name) for name in ("save", "save backports", "save GICv2")])
def test_a_guest_saved_while_it_prints_goes_on_when_restored(name, run):
    run.check()
