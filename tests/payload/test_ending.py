"""ending: each way in which a guest or its host ends the machine, and the exit code."""
import signal

import pytest
from vmm import guest, machines, only_on

X86 = only_on("x86_64", "the chip set of a PC, and its triple fault")


def start(start_vmm, word, *extra, **options):
    vmm = start_vmm(*extra, kernel=guest("ending"), append=word, **options)
    vmm.wait_for(rf"ending={word}\n")
    return vmm


@pytest.mark.parametrize("word", ["poweroff", "reset", pytest.param("kbc", marks=X86), pytest.param("cf9", marks=X86), pytest.param("triple", marks=X86)])
def test_the_guest_ends_the_process_in_order(start_vmm, word):
    vmm = start(start_vmm, word)
    assert vmm.wait() == 0, vmm.stderr()
    assert vmm.text() == f"ending={word}\n"


@pytest.mark.parametrize("word", ["poweroff", "reset", pytest.param("kbc", marks=X86)])
def test_it_ends_so_with_every_processor_and_without_acpi(start_vmm, word):
    vmm = start(start_vmm, word, smp=4, machine=machines()[-1])
    assert vmm.wait() == 0, vmm.stderr()


@pytest.mark.parametrize("word", ["reset", pytest.param("kbc", marks=X86), pytest.param("triple", marks=X86)])
def test_action_reboot_reset_starts_the_guest_again(start_vmm, word):
    vmm = start_vmm("-action", "reboot=reset", kernel=guest("ending"), append=word)
    vmm.wait_for(rf"(ending={word}\r?\n){{3}}")
    assert vmm.process.poll() is None


def test_no_reboot_wins_over_a_reset(start_vmm):
    vmm = start(start_vmm, "reset", "-no-reboot")
    assert vmm.wait() == 0
    assert vmm.text().count("ending=") == 1


def test_no_shutdown_keeps_the_process_until_quit(start_vmm):
    vmm = start(start_vmm, "poweroff", "-no-shutdown")
    vmm.qmp.wait_status("shutdown")
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


@pytest.mark.parametrize("word", ["hlt", "spin"])
def test_quit_ends_a_guest_that_does_not(start_vmm, word):
    vmm = start(start_vmm, word, smp=2)
    assert vmm.qmp.command("query-status")["status"] == "running"
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("word", ["hlt", "spin"])
def test_a_signal_ends_it_in_order_and_is_named(start_vmm, word, number):
    vmm = start(start_vmm, word)
    vmm.signal(number)
    assert vmm.wait() == 0
    assert str(int(number)) in vmm.stderr()


def test_a_guest_exception_is_the_guests_own_matter(start_vmm):
    vmm = start(start_vmm, "exception")
    assert vmm.wait() == 0
    assert "exception=0 " in vmm.text()
