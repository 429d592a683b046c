"""QMP as clients meet it on a socket."""
import json
import os
import socket
import stat

import pytest
from vmm import SCALE, TIMEOUT, Qmp, QmpError, guest


@pytest.fixture
def vmm(start_vmm):
    vmm = start_vmm("-S", kernel=guest("ending"), append="poweroff")
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"
    return vmm


class Raw:
    """A client that sends bytes."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT * SCALE)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")
        self.greeting = self.answer()

    def answer(self):
        line = self.stream.readline()
        assert line.endswith(b"\r\n") or not line, line
        return json.loads(line) if line else None

    def ask(self, data):
        self.socket.sendall(data)
        return self.answer()


@pytest.fixture
def raw(vmm):
    client = Raw(vmm.qmp_path)
    yield client
    client.socket.close()


def test_the_greeting_comes_unasked_and_names_qemus_version(raw):
    version = raw.greeting["QMP"]["version"]
    assert version["qemu"] == {"major": 5, "minor": 0, "micro": 1}
    assert version["package"] == "StratoVirt-2.5.0"
    assert raw.greeting["QMP"]["capabilities"] == []


def test_the_socket_is_its_owners_and_goes_at_the_end(vmm):
    assert stat.S_IMODE(os.stat(vmm.qmp_path).st_mode) == 0o600
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    assert not os.path.exists(vmm.qmp_path)


@pytest.mark.parametrize("request_bytes, error_class, text", [
    (b"{]", "GenericError", "JSON"),
    (b"nonsense\n", "GenericError", "JSON"),
    (b"[1]\n", "GenericError", "object"),
    (b'{"execute": 5}', "GenericError", "execute"),
    (b'{"arguments": {}}', "GenericError", "execute"),
    (b'{"execute": "no-such"}', "CommandNotFound", "no-such"),
    (b'{"execute": "query-status", "extra": 1}', "GenericError", "extra"),
    (b'{"execute": "query-status", "arguments": {"x": 1}}', "GenericError", "'x'"),
    (b'{"execute": "query-status", "arguments": []}', "GenericError", "arguments"),
    (b'{"execute": "migrate"}', "GenericError", "uri"),
    (b'{"execute": "migrate", "arguments": {"uri": 1}}', "GenericError", "uri"),
    (b'{"execute": "migrate", "arguments": {"uri": "ftp://x"}}', "GenericError", "ftp://x"),
    (b'{"execute": "migrate", "arguments": {"uri": "file:"}}', "GenericError", "file:"),
    (b'{"execute": "migrate", "arguments": {"uri": "file:/nowhere/at/all"}}', "GenericError", "/nowhere/at/all"),
    (b'{"execute": "\\ud800"}', "GenericError", "JSON"),
    pytest.param(b'{"execute": "query-status", "id": ' + b"[" * 4000 + b"]" * 4000 + b"}", "GenericError", "", id="deep nesting"),
])
def test_a_bad_request_is_answered_and_the_next_one_served(raw, request_bytes, error_class, text):
    answer = raw.ask(request_bytes)
    assert answer["error"]["class"] == error_class
    assert text in answer["error"]["desc"]
    assert raw.ask(b'{"execute": "query-status"}')["return"]["status"] == "prelaunch"


def test_requests_need_no_newline_and_may_come_in_pieces_or_together(raw):
    raw.socket.sendall(b'{"execute": "query-st')
    raw.socket.sendall(b'atus", "id": {"a": [1]}}{"execute":"query-version","id":"}"} {"execute":"query-commands"}')
    first, second, third = raw.answer(), raw.answer(), raw.answer()
    assert first["id"] == {"a": [1]} and first["return"]["status"] == "prelaunch"
    assert second["id"] == "}" and second["return"]["package"] == "StratoVirt-2.5.0"
    assert {"name": "quit"} in third["return"] and "id" not in third


def test_a_request_without_end_is_cut_off_and_others_are_served(vmm, raw):
    try:
        raw.socket.sendall(b'{"execute": "' + b"x" * (1 << 20))
    except (BrokenPipeError, ConnectionResetError):
        pass
    else:
        try:
            while raw.stream.readline():
                pass
        except ConnectionResetError:
            pass
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"


def test_two_clients_are_served_and_both_get_the_events(vmm, raw):
    second = Qmp(vmm.qmp_path)
    assert second.command("query-status")["status"] == "prelaunch"
    vmm.qmp.command("cont")
    for client in (vmm.qmp, second):
        assert client.wait_event("RESUME")
        assert client.wait_event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown"}
    assert raw.answer()["event"] == "RESUME"
    second.close()
    assert vmm.wait() == 0


def test_a_client_may_go_in_the_middle_of_anything(vmm):
    for data in (b"", b"{", b'{"execute": "query-status"}', b'{"execute": "stop"}{"execute":'):
        client = Raw(vmm.qmp_path)
        client.socket.sendall(data)
        client.socket.close()
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"


def test_a_client_that_reads_nothing_harms_nobody(vmm):
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(vmm.qmp_path)
    silent.settimeout(1)
    try:
        for _ in range(20000):
            silent.sendall(b'{"execute": "query-commands"}')
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        pass
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"
    assert vmm.memory_kib("Pss", outside=32 * 1024) < 32 * 1024
    silent.close()


def test_more_clients_than_allowed_are_turned_away(vmm):
    clients = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for client in clients:
        client.settimeout(TIMEOUT * SCALE)
        client.connect(vmm.qmp_path)
        client.recv(1)  # the greeting begins, or the end
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"
    for client in clients:
        client.close()
    Qmp(vmm.qmp_path).close()


def test_quit_is_answered_before_the_end(raw, vmm):
    assert raw.ask(b'{"execute": "quit", "id": 7}') == {"return": {}, "id": 7}
    event = raw.answer()
    assert event["event"] == "SHUTDOWN"
    assert set(event["timestamp"]) == {"seconds", "microseconds"}
    assert raw.answer() is None
    assert vmm.wait() == 0


def test_several_channels_tcp_among_them(start_vmm):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    vmm = start_vmm("-qmp", f"tcp:127.0.0.1:{port},server,nowait", machine="none", serial=None)
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"
    client = socket.create_connection(("127.0.0.1", port), TIMEOUT * SCALE)
    assert "QMP" in json.loads(client.makefile("rb").readline())
    client.close()


def test_a_monitor_on_a_chardev_is_the_same(start_vmm, tmp_path):
    path = str(tmp_path / "mon.sock")
    vmm = start_vmm("-chardev", f"socket,id=m,path={path},server,nowait", "-mon", "chardev=m,mode=control", machine="none",
                    serial=None, qmp=False)
    client = Qmp(path)
    assert client.command("query-version")["package"] == "StratoVirt-2.5.0"
    client.command("quit")
    client.close()
    assert vmm.wait() == 0


def test_an_unknown_command_is_no_reason_to_stop(vmm):
    with pytest.raises(QmpError) as unknown:
        vmm.qmp.command("query-nonsense")
    assert unknown.value.error["class"] == "CommandNotFound"
