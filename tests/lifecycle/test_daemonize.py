"""-daemonize and -pidfile: the caller learns whether the VM is ready, and nothing of the VM stays behind."""
import json
import os
import signal
import stat
import subprocess
import time

import pytest
from vmm import SCALE, TIMEOUT, Qmp, binary, guest


class Launch:
    """Runs the launcher to its end; stops the VM that it left."""

    def __init__(self, folder, *extra, word="hlt"):
        self.folder = folder
        self.pidfile = folder / "pid"
        self.socket = str(folder / "qmp.sock")
        self.argv = [binary(), "-machine", "microvm", "-m", "32", "-kernel", guest("ending"), "-append", word, "-daemonize", "-pidfile",
                     str(self.pidfile), "-qmp", f"unix:{self.socket},server,nowait", *extra]
        # Pipes: they end when the last process that holds them has let go of them.
        self.done = subprocess.run(self.argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT * SCALE)
        self.pid = int(self.pidfile.read_text()) if self.done.returncode == 0 else None

    def alive(self):
        try:
            with open(f"/proc/{self.pid}/stat") as stat_file:
                return stat_file.read().rpartition(") ")[2][0] != "Z"  # process 1 may be slow to collect it
        except FileNotFoundError:
            return False

    def wait_end(self):
        deadline = time.monotonic() + TIMEOUT * SCALE
        while self.alive():
            assert time.monotonic() < deadline, "the daemon is still there"
            time.sleep(0.01)


@pytest.fixture
def launch(tmp_path):
    launches = []

    def start(*extra, **options):
        launches.append(Launch(tmp_path, *extra, **options))
        return launches[-1]

    yield start
    for launched in launches:
        if launched.pid and launched.alive():
            os.kill(launched.pid, signal.SIGKILL)


def test_when_the_launcher_ends_the_vm_can_be_talked_to(launch):
    vm = launch()
    assert (vm.done.returncode, vm.done.stdout, vm.done.stderr) == (0, "", "")
    qmp = Qmp(vm.socket, timeout=1)
    assert qmp.command("query-status")["status"] in ("prelaunch", "running")
    qmp.command("quit")
    vm.wait_end()


def test_the_daemon_has_left_its_callers_session_and_streams(launch):
    vm = launch()
    assert os.getsid(vm.pid) != os.getsid(0)
    assert os.getsid(vm.pid) != vm.pid, "a session's leader could get a terminal"
    assert [os.readlink(f"/proc/{vm.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3


def test_the_pidfile_holds_the_number_alone_and_goes_with_the_vm(launch):
    vm = launch()
    assert vm.pidfile.read_text() == str(vm.pid)
    assert stat.S_IMODE(vm.pidfile.stat().st_mode) == 0o600
    assert stat.S_IMODE(os.stat(vm.socket).st_mode) == 0o600
    os.kill(vm.pid, signal.SIGTERM)
    vm.wait_end()
    assert not vm.pidfile.exists()
    assert not os.path.exists(vm.socket)


def test_the_pidfile_goes_as_well_when_the_guest_ends_itself(launch):
    vm = launch("-S", word="poweroff")
    Qmp(vm.socket).command("cont")
    vm.wait_end()
    assert not vm.pidfile.exists()


def test_a_pidfile_that_exists_is_an_error_and_stays(launch, tmp_path):
    (tmp_path / "pid").write_text("precious")
    vm = launch()
    assert vm.done.returncode == 1
    assert "-pidfile" in vm.done.stderr and str(vm.pidfile) in vm.done.stderr
    assert vm.pidfile.read_text() == "precious"


def test_a_pidfile_that_is_a_dangling_link_is_not_followed(launch, tmp_path):
    (tmp_path / "pid").symlink_to(tmp_path / "elsewhere")
    assert launch().done.returncode == 1
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("extra, named", [
    (["-initrd", "/nowhere/initrd"], "/nowhere/initrd"),
    (["-serial", "file,path=/nowhere/serial"], "/nowhere/serial"),
    (["-incoming", "file:/nowhere"], "/nowhere"),
    (["-qmp", "unix:/nowhere/sock,server,nowait"], "/nowhere/sock"),
])
def test_what_fails_in_the_child_is_the_launchers_error(launch, extra, named):
    vm = launch(*extra)
    assert vm.done.returncode == 1
    assert vm.done.stdout == ""
    assert named in vm.done.stderr and vm.done.stderr.count("\n") == 1
    assert not vm.pidfile.exists() and not os.path.exists(vm.socket)


def test_stdio_and_daemonize_exclude_each_other(launch):
    vm = launch("-serial", "stdio")
    assert vm.done.returncode == 1
    assert "-daemonize" in vm.done.stderr


def test_paths_are_those_of_the_callers_folder(tmp_path):
    argv = [binary(), "-m", "32", "-kernel", guest("hello"), "-serial", "file,path=out", "-boot-timeline", "timeline", "-D", "log",
            "-daemonize", "-pidfile", "pid"]
    assert subprocess.run(argv, cwd=tmp_path, timeout=TIMEOUT * SCALE).returncode == 0
    deadline = time.monotonic() + TIMEOUT * SCALE
    while (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (tmp_path / "out").read_bytes() == b"H"
    assert json.loads((tmp_path / "timeline").read_text())["stages"]
