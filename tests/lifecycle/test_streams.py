"""What stdin, stdout and the back ends of the serial port may be."""
import os
import re
import socket
import stat
import subprocess
import time

import pytest
from vmm import SCALE, TIMEOUT, guest, run_to_end

FLOOD = 192 * 1024  # more than a pipe and our queue hold together


def test_stdin_from_a_file_reaches_the_guest_whole(start_vmm, tmp_path):
    data = bytes(0x20 + i % 90 for i in range(5000)) + b"\x04"
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        vmm = start_vmm(kernel=guest("flood"), append="echo", stdin=source, stdout=sink)
        assert vmm.wait() == 0, vmm.stderr()
    # The first byte may come before the guest has set the port up, which empties it, as on a real one.
    assert (tmp_path / "out").read_bytes().replace(b"echo=ready\n ", b"echo=ready\n") == b"echo=ready\n" + data[1:-1] + b"echo=end\n"


def test_all_streams_may_be_dev_null(start_vmm):
    vmm = start_vmm(kernel=guest("hello"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert vmm.wait() == 0, vmm.stderr()


def test_stdout_may_be_appended_to(start_vmm, tmp_path):
    (tmp_path / "out").write_bytes(b"before ")
    with open(tmp_path / "out", "ab") as sink:
        assert start_vmm(kernel=guest("hello"), stdout=sink).wait() == 0
    assert (tmp_path / "out").read_bytes() == b"before H"


def test_a_shared_stdout_stays_blocking(start_vmm):
    """Whoever shares the file description with us, such as a shell, must not find it non-blocking afterwards."""
    reader, writer = os.pipe()
    assert start_vmm(kernel=guest("hello"), stdout=writer).wait() == 0
    assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)


def test_a_stalled_stdout_never_holds_the_guest_or_its_end(start_vmm):
    vmm = start_vmm(kernel=guest("flood"), append=f"bytes={FLOOD}", read_output=False)
    assert vmm.process.wait(TIMEOUT * SCALE) == 0
    vmm.output.start()
    vmm.output.wait_end()
    assert vmm.bytes().startswith(b"00000000...")
    assert len(vmm.bytes()) < FLOOD


def test_without_a_serial_port_nothing_comes_out(start_vmm):
    vmm = run_to_end(start_vmm, kernel=guest("hello"), serial="none")
    assert vmm.bytes() == b""


def test_a_file_gets_the_output_and_loses_what_it_held(start_vmm, tmp_path):
    path = tmp_path / "serial"
    path.write_bytes(b"x" * 100)
    vmm = run_to_end(start_vmm, kernel=guest("hello"), serial=f"file,path={path}")
    assert path.read_bytes() == b"H"
    assert vmm.bytes() == b""


def test_a_pty_is_announced_and_carries_both_ways(start_vmm):
    vmm = start_vmm("-S", kernel=guest("flood"), append="echo", serial="pty")
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"
    name = re.search(r"/dev/pts/\d+", vmm.stderr())
    assert name, f"nobody can know the terminal: {vmm.stderr()!r}"
    terminal = os.open(name[0], os.O_RDWR | os.O_NOCTTY)
    try:
        vmm.qmp.command("cont")
        seen = b""
        while b"echo=ready" not in seen:
            seen += os.read(terminal, 4096)
        os.write(terminal, b"hello\x04")
        while b"echo=end" not in seen:
            seen += os.read(terminal, 4096)
        assert b"hello" in seen
    finally:
        os.close(terminal)
    assert vmm.wait() == 0


def connect(path):
    deadline = time.monotonic() + TIMEOUT * SCALE
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT * SCALE)
        try:
            client.connect(path)
            return client
        except OSError:
            client.close()
            assert time.monotonic() < deadline
            time.sleep(0.01)


def receive_until(client, text):
    seen = b""
    while text not in seen:
        piece = client.recv(4096)
        assert piece, f"the connection ended after {seen!r}"
        seen += piece
    return seen


def test_a_unix_socket_takes_one_peer_after_another(start_vmm, tmp_path):
    path = str(tmp_path / "serial.sock")
    vmm = start_vmm("-S", kernel=guest("flood"), append="echo", serial=f"socket,path={path},server,nowait")
    first = connect(path)
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0
    vmm.qmp.command("cont")
    receive_until(first, b"echo=ready")
    first.sendall(b"one")
    receive_until(first, b"one")
    first.close()
    second = connect(path)
    deadline = time.monotonic() + TIMEOUT * SCALE
    seen = b""
    second.settimeout(0.2)
    while b"two" not in seen:  # what is sent before the guest's echo has found the new peer may be lost
        assert time.monotonic() < deadline
        second.sendall(b"two")
        try:
            seen += second.recv(4096)
        except TimeoutError:
            pass
    second.sendall(b"\x04")
    assert vmm.wait() == 0
    second.close()
    assert not os.path.exists(path)


def test_a_client_socket_connects_to_whoever_listens(start_vmm, tmp_path):
    path = str(tmp_path / "listener")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    listener.settimeout(TIMEOUT * SCALE)
    vmm = start_vmm("-S", kernel=guest("flood"), append="echo", serial=f"socket,path={path}")
    peer = listener.accept()[0]
    peer.settimeout(TIMEOUT * SCALE)
    vmm.qmp.command("cont")
    receive_until(peer, b"echo=ready")
    peer.sendall(b"x\x04")
    receive_until(peer, b"echo=end")
    assert vmm.wait() == 0
    assert os.path.exists(path), "the listener's socket is not ours to remove"
    peer.close()
    listener.close()


def test_output_to_the_log_comes_by_lines(start_vmm):
    vmm = run_to_end(start_vmm, "-chardev", "redirect-to-log,id=con0", kernel=guest("flood"), append="bytes=128",
                     serial="chardev:con0", env={"STRATOVIRT_LOG_LEVEL": "info"})
    assert vmm.bytes() == b""
    assert re.search(r"INFO: .*00000000\.+\n.*INFO: .*00000001\.+\n.*INFO: .*flood=end\n", vmm.stderr()), vmm.stderr()
