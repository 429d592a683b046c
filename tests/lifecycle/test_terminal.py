"""The serial port on a terminal: raw while the VM runs, as it was before once it has ended, however it ended."""
import os
import pty
import signal
import subprocess
import termios
import threading
import time

import pytest
from vmm import SCALE, TIMEOUT, Output, binary, guest, only_on

ENDS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
CRASHES = [signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGQUIT]


class Terminal:
    """A VM whose stdin and stdout (and stderr, unless told) are a terminal of its own."""

    def __init__(self, *arguments):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        argv = [binary(), "-machine", "microvm", "-m", "32", "-serial", "stdio", *arguments]
        self.process = subprocess.Popen(argv, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True)
        self.output = Output(os.fdopen(os.dup(self.master), "rb", buffering=0))
        self.output.start()

    def press(self, keys):
        os.write(self.master, keys)

    def mode(self):
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        return not self.mode()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait(self):
        code = self.process.wait(TIMEOUT * SCALE)
        assert self.mode() == self.before
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminal(monkeypatch):
    # The reader's end of a terminal answers EIO once nobody holds the other end.
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, count: _read_or_end(read, fd, count))
    opened = []

    def start(*arguments):
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
        one.output.wait_end(5)


def _read_or_end(read, fd, count):
    try:
        return read(fd, count)
    except OSError:
        return b""


def start_ending(terminal, word):
    vmm = terminal("-kernel", guest("ending"), "-append", word)
    vmm.output.wait_for(f"ending={word}")
    return vmm


def test_raw_while_it_runs_and_restored_after_power_off(terminal):
    vmm = terminal("-kernel", guest("flood"), "-append", "echo")
    vmm.output.wait_for("echo=ready")
    assert vmm.is_raw()
    vmm.press(b"\x03\x1a\x04")  # Ctrl-C and Ctrl-Z are the guest's
    assert vmm.wait() == 0
    assert b"\x03\x1a" in vmm.output.bytes()


@pytest.mark.parametrize("number", ENDS)
def test_restored_after_a_signal_that_ends_it(terminal, number):
    vmm = start_ending(terminal, "hlt")
    assert vmm.is_raw()
    vmm.process.send_signal(number)
    assert vmm.wait() == 0


@pytest.mark.parametrize("number", CRASHES)
def test_restored_after_a_crash(terminal, number):
    vmm = start_ending(terminal, "spin")
    assert vmm.is_raw()
    vmm.process.send_signal(number)
    assert vmm.wait() == -number


def test_restored_after_an_error_at_start(terminal):
    vmm = terminal("-kernel", guest("hello"), "-qmp", "unix:/nowhere/sock,server,nowait")
    assert vmm.wait() == 1
    vmm.output.wait_for("/nowhere/sock")


@only_on("x86_64", "KVM gives an Arm guest that runs where nothing is an abort of its own")
def test_restored_after_a_kvm_error(terminal, tmp_path):
    from tiny_guest import JUMP_TO_ABSENT_MEMORY, write_kernel
    vmm = terminal("-kernel", write_kernel(tmp_path / "guest", JUMP_TO_ABSENT_MEMORY))
    assert vmm.wait() == 1


def test_ctrl_a_x_ends_the_vm(terminal):
    vmm = start_ending(terminal, "hlt")
    vmm.press(b"\x01x")
    assert vmm.wait() == 0


def test_ctrl_a_x_pressed_in_two_goes_ends_a_busy_vm(terminal):
    vmm = start_ending(terminal, "spin")
    vmm.press(b"\x01")
    time.sleep(0.1)
    vmm.press(b"x")
    assert vmm.wait() == 0


def test_ctrl_a_h_lists_the_keys_and_the_guest_does_not_see_it(terminal):
    vmm = terminal("-kernel", guest("flood"), "-append", "echo")
    vmm.output.wait_for("echo=ready")
    vmm.press(b"\x01h")
    vmm.output.wait_for("Ctrl-A X")
    vmm.press(b"ab\x04")
    vmm.output.wait_for("abecho=end")
    assert vmm.wait() == 0


def test_ctrl_a_twice_is_one_for_the_guest(terminal):
    vmm = terminal("-kernel", guest("flood"), "-append", "echo")
    vmm.output.wait_for("echo=ready")
    vmm.press(b"\x01\x01x\x04")
    vmm.output.wait_for(b"\x01xecho=end")
    assert vmm.wait() == 0


def test_quick_typing_arrives_in_order(terminal):
    vmm = terminal("-kernel", guest("flood"), "-append", "echo")
    vmm.output.wait_for("echo=ready")
    text = bytes(0x21 + i % 90 for i in range(2000))
    writer = threading.Thread(target=lambda: vmm.press(text + b"\x04"))
    writer.start()
    vmm.output.wait_for("echo=end")
    writer.join()
    assert text in vmm.output.bytes()
    assert vmm.wait() == 0
