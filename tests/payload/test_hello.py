"""hello: the smallest guest, by each way into a kernel."""
import subprocess

import pytest
from vmm import forms, guest, run_to_end


@pytest.mark.parametrize("kernel", forms("hello"))
def test_the_byte_arrives_and_power_off_ends_the_process(start_vmm, kernel):
    vmm = run_to_end(start_vmm, kernel=guest(kernel))
    assert vmm.bytes() == b"H"


def test_it_runs_without_qmp_and_without_input(start_vmm):
    vmm = run_to_end(start_vmm, kernel=guest("hello"), qmp=False, stdin=subprocess.DEVNULL)
    assert vmm.bytes() == b"H"


def test_serial_output_goes_to_a_file(start_vmm, tmp_path):
    log = tmp_path / "serial.log"
    vmm = run_to_end(start_vmm, kernel=guest("hello"), serial=f"file,path={log}")
    assert log.read_bytes() == b"H"
    assert vmm.bytes() == b""


def test_without_a_serial_port_the_guest_still_ends(start_vmm):
    vmm = run_to_end(start_vmm, kernel=guest("hello"), serial=None)
    assert vmm.bytes() == b""


@pytest.mark.parametrize("memory_mib", [32, 128, 3072, 5120])
def test_any_size_of_ram_runs(start_vmm, memory_mib):
    assert run_to_end(start_vmm, kernel=guest("hello"), memory_mib=memory_mib).bytes() == b"H"


def test_frozen_at_start_it_runs_after_cont(start_vmm):
    vmm = start_vmm("-S", kernel=guest("hello"))
    assert vmm.qmp.command("query-status")["running"] is False
    assert vmm.bytes() == b""
    vmm.qmp.command("cont")
    assert vmm.wait() == 0
    assert vmm.bytes() == b"H"
