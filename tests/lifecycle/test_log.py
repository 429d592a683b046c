"""The log and the boot timeline; stdout belongs to the guest."""
import json
import os
import re
import signal
import subprocess

import pytest
from tiny_guest import POWER_OFF, for_ever, mark, write_kernel
from vmm import SCALE, TIMEOUT, binary, guest, run_to_end

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z stratovirt:(ERROR|WARN|INFO|DEBUG|TRACE): .+")
STAGES = ["main", "parsed", "kvm", "memory", "platform", "kernel_loaded", "devices", "vcpus", "first_run"]


@pytest.mark.parametrize("level, lines", [("error", False), ("warn", False), ("info", True), ("debug", True), ("trace", True)])
def test_the_level_decides_what_is_written(start_vmm, level, lines):
    vmm = run_to_end(start_vmm, kernel=guest("hello"), env={"STRATOVIRT_LOG_LEVEL": level})
    assert bool(vmm.stderr()) == lines
    assert all(LINE.fullmatch(line) for line in vmm.stderr().splitlines())
    assert vmm.bytes() == b"H"


def test_a_level_that_does_not_exist_is_an_error(start_vmm):
    vmm = start_vmm(kernel=guest("hello"), env={"STRATOVIRT_LOG_LEVEL": "chatty"})
    assert vmm.wait() == 1
    assert "STRATOVIRT_LOG_LEVEL" in vmm.stderr() and "chatty" in vmm.stderr()
    assert vmm.bytes() == b""


def test_the_log_goes_to_a_file_instead_of_stderr(start_vmm, tmp_path):
    path = tmp_path / "log"
    for _ in range(2):
        vmm = run_to_end(start_vmm, "-D", str(path), kernel=guest("hello"), env={"STRATOVIRT_LOG_LEVEL": "info"})
        assert vmm.stderr() == ""
    lines = path.read_text().splitlines()
    assert len(lines) >= 2, "the second run must not have emptied it"
    assert all(LINE.fullmatch(line) for line in lines)


def test_the_reason_of_the_end_stands_in_the_log(start_vmm):
    vmm = run_to_end(start_vmm, kernel=guest("ending"), append="reset", env={"STRATOVIRT_LOG_LEVEL": "info"})
    assert "guest-reset" in vmm.stderr()


def test_an_unwritable_log_file_is_an_error(start_vmm):
    vmm = start_vmm("-D", "/nowhere/log", kernel=guest("hello"))
    assert vmm.wait() == 1
    assert "/nowhere/log" in vmm.stderr()


def test_a_guest_can_not_flood_the_log(start_vmm, tmp_path):
    vmm = run_to_end(start_vmm, kernel=guest("fault"), env={"STRATOVIRT_LOG_LEVEL": "trace"})
    assert len(vmm.stderr().splitlines()) < 200


@pytest.mark.parametrize("option", ["-help", "-h", "-version", "-V"])
def test_help_and_version_are_the_only_output_on_stdout(option):
    done = subprocess.run([binary(), option], capture_output=True, text=True, timeout=TIMEOUT * SCALE)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = r"StratoVirt \d+\.\d+\.\d+\n" if option in ("-version", "-V") else r"Usage: stratovirt .*"
    assert re.fullmatch(wanted, done.stdout, re.DOTALL)


def timeline(path):
    written = json.loads(path.read_text())
    assert written["unit"] == "us since exec"
    names = [stage["name"] for stage in written["stages"]]
    times = [stage["us"] for stage in written["stages"]]
    assert times == sorted(times)
    assert times[0] >= 0
    return names


def test_the_timeline_has_every_stage_in_order(start_vmm, tmp_path):
    path = tmp_path / "timeline"
    code = mark(1) + mark(2) + POWER_OFF
    run_to_end(start_vmm, "-boot-timeline", str(path), kernel=write_kernel(tmp_path / "guest", code))
    assert timeline(path) == [*STAGES, "kernel_entry", "userspace"]


def test_the_timeline_of_a_silent_guest_ends_at_its_first_run(start_vmm, tmp_path):
    path = tmp_path / "timeline"
    path.write_text("x" * 10000)
    run_to_end(start_vmm, "-boot-timeline", str(path), kernel=guest("hello"))
    assert timeline(path) == STAGES


def test_a_frozen_vm_has_no_first_run_yet(start_vmm, tmp_path):
    path = tmp_path / "timeline"
    vmm = start_vmm("-S", "-boot-timeline", str(path), kernel=guest("ending"), append="hlt")
    vmm.qmp.wait_status("prelaunch")
    assert "first_run" not in timeline(path)
    vmm.qmp.command("cont")
    vmm.wait_for("ending=hlt")
    assert timeline(path)[len(STAGES) - 1] == "first_run"


def test_a_guest_that_marks_stages_for_ever_does_not_grow_the_file(start_vmm, tmp_path):
    path = tmp_path / "timeline"
    loop = for_ever(mark(1) + mark(2) + mark(77))
    vmm = start_vmm("-boot-timeline", str(path), kernel=write_kernel(tmp_path / "guest", loop))
    vmm.qmp.wait_status("running")
    while not (path.exists() and "userspace" in path.read_text()):
        assert vmm.process.poll() is None
    size = os.path.getsize(path)
    vmm.signal(signal.SIGTERM)
    assert vmm.wait() == 0
    assert os.path.getsize(path) == size
