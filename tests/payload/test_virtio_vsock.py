"""virtio_vsock: sockets between host and guest, whatever the guest, the host or both do to them."""
import contextlib
import os
import random
import resource
import select
import socket
import threading
import time

import pytest
from vmm import SCALE, device_line, guest, machines

OK, NEEDS_RESET = 0xf, 0x4f
RESPONSE, RESET, READ_WRITE, CREDIT_UPDATE, CREDIT_REQUEST = 2, 3, 5, 6, 7
LIMIT = 60 * SCALE
FIRST_PORT = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def pattern(start, count):
    return bytes(position * 7 % 251 for position in range(start, start + count))


def vsock(tmp_path, packed="off", name="v"):
    return ("-device", f"virtio-vsock-device,id=vsock0,guest-cid=42,path={tmp_path}/{name},packed={packed}")


class Client:
    """A host program that connects to a port of the guest."""

    def __init__(self, path, port=1024):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(str(path))
        self.socket.sendall(f"CONNECT {port}\n".encode())
        line = b""
        while not line.endswith(b"\n"):
            byte = self.socket.recv(1)
            if not byte:
                raise ConnectionError(f"refused after {line!r}")
            line += byte
        verb, self.port = line.decode().split()
        assert verb == "OK"
        self.port = int(self.port)

    def receive(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(65536)
            assert piece, f"the connection ended after {len(data)} bytes"
            data += piece
        return data

    def echo(self, data):
        self.socket.sendall(data)
        assert self.receive(len(data)) == data

    def close(self):
        self.socket.close()


class Listener:
    """A host program that listens at a port; what it does with a connection is up to `serve`, in a thread of its own."""

    def __init__(self, path, port, serve, backlog=1024):
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"{path}_{port}")
        self._listening.listen(backlog)
        self._serve = serve
        self.accepted = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.settimeout(LIMIT)
            self.accepted.append(connection)
            self._serve(connection)

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        for connection in self.accepted:
            connection.close()


def nothing(connection):
    """Neither reads nor writes."""


def cpu_seconds(vmm, thread):
    total = 0
    for task in os.listdir(f"/proc/{vmm.pid}/task"):
        with open(f"/proc/{vmm.pid}/task/{task}/stat") as stat:
            text = stat.read()
        if text[text.index("(") + 1:text.rindex(")")] == thread:
            fields = text[text.rindex(")") + 2:].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def start_ready(start_vmm, *extra, **options):
    vmm = start_vmm(*extra, kernel=guest("virtio_vsock"), **options)
    vmm.wait_for(r"vsock=ready\n")
    return vmm


def quit_by(vmm, client):
    client.socket.sendall(b"quit\n")
    assert vmm.wait() == 0, vmm.stderr()


def migrate(vmm, folder):
    vmm.qmp.command("migrate", uri=f"file:{folder}")
    deadline = time.monotonic() + LIMIT
    while vmm.qmp.command("query-migrate")["status"] != "completed":
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- to the guest

@pytest.mark.parametrize("machine", machines())
@pytest.mark.parametrize("packed", ["off", "on"])
def test_programs_reach_the_guest_each_on_a_connection_of_its_own(start_vmm, tmp_path, machine, packed):
    vmm = start_ready(start_vmm, *vsock(tmp_path, packed), machine=machine)
    vmm.wait_for(rf"device={device_line(0x13)}\n")
    assert "cid=42\n" in vmm.text()
    clients = [Client(tmp_path / "v", port) for port in (1024, 1024, 7)]
    assert [client.port for client in clients] == [FIRST_PORT, FIRST_PORT + 1, FIRST_PORT + 2]
    for client in clients:
        client.echo(b"hello on " + str(client.port).encode())
    for client in clients[1:]:
        client.close()
    clients[0].echo(b"still here")
    quit_by(vmm, clients[0])
    assert vmm.stderr() == ""
    assert not os.path.exists(tmp_path / "v")


@pytest.mark.parametrize("packed", ["off", "on"])
def test_a_hundred_programs_flood_at_the_same_time(start_vmm, tmp_path, packed):
    vmm = start_ready(start_vmm, *vsock(tmp_path, packed))
    data = random.Random(1).randbytes(10_000)
    failures = []

    def talk():
        try:
            client = Client(tmp_path / "v")
            sender = threading.Thread(target=client.socket.sendall, args=(data,))
            sender.start()
            assert client.receive(len(data)) == data
            sender.join()
            client.close()
        except Exception as error:  # noqa: BLE001  (told by the test)
            failures.append(error)

    threads = [threading.Thread(target=talk) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    quit_by(vmm, Client(tmp_path / "v"))


def test_a_program_that_has_sent_all_still_gets_all(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *vsock(tmp_path))
    client = Client(tmp_path / "v")
    client.socket.sendall(b"last words")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.receive(10) == b"last words"
    assert client.socket.recv(1) == b""
    quit_by(vmm, Client(tmp_path / "v"))


def test_a_program_that_stalls_keeps_nobody_else_waiting(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *vsock(tmp_path))
    stalled = Client(tmp_path / "v")
    before = vmm.memory_kib("Private_Dirty", outside=16 << 10)
    data = random.Random(2).randbytes(900_000)
    sender = threading.Thread(target=stalled.socket.sendall, args=(data,))
    sender.start()
    time.sleep(0.5)
    busy = cpu_seconds(vmm, "io")
    time.sleep(1)
    assert cpu_seconds(vmm, "io") - busy < 0.2
    assert vmm.memory_kib("Private_Dirty", outside=16 << 10) - before <= 1024
    for _ in range(10):
        client = Client(tmp_path / "v")
        client.echo(b"quick" * 1000)
        client.close()
    assert stalled.receive(len(data)) == data
    sender.join()
    quit_by(vmm, Client(tmp_path / "v"))


# --- what host programs do wrong

def test_lines_that_are_none_are_turned_away(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *vsock(tmp_path))
    for line in (b"\n", b"CONNECT\n", b"CONNECT x\n", b"CONNECT 4294967296\n", b"GET / HTTP/1.1\r\n", b"x" * (1 << 20)):
        with socket.socket(socket.AF_UNIX) as wrong:
            wrong.settimeout(LIMIT)
            wrong.connect(str(tmp_path / "v"))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                wrong.sendall(line)
            with contextlib.suppress(ConnectionResetError):
                assert wrong.recv(1) == b""
    silent = []
    for _ in range(300):
        silent.append(socket.socket(socket.AF_UNIX))
        silent[-1].connect(str(tmp_path / "v"))
        silent[-1].sendall(b"CONNECT")
    client = Client(tmp_path / "v")
    client.echo(b"alive")
    assert vmm.stderr().count("did not say CONNECT") >= 6
    assert len(vmm.stderr().splitlines()) <= 100
    quit_by(vmm, client)
    for one in silent:
        one.close()


# --- from the guest

def serve_pattern(size):
    def serve(connection):
        def talk():
            sender = threading.Thread(target=connection.sendall, args=(pattern(0, size),))
            sender.start()
            got = b""
            while piece := connection.recv(65536):
                got += piece
            sender.join()
            results.append(got)
        threading.Thread(target=talk, daemon=True).start()
    results = []
    serve.results = results
    return serve


@pytest.mark.parametrize("packed", ["off", "on"])
def test_the_guest_reaches_a_program(start_vmm, tmp_path, packed):
    size = 100_000  # where the processor is emulated, each byte costs the guest microseconds
    serve = serve_pattern(size)
    listener = Listener(tmp_path / "v", 99, serve)
    vmm = start_vmm(*vsock(tmp_path, packed), kernel=guest("virtio_vsock"), append=f"mode=connect port=99 bytes={size}")
    assert vmm.wait() == 0, vmm.stderr()
    assert f"connected\nstream.in={size}\nstream.out={size}\n" in vmm.text()
    deadline = time.monotonic() + LIMIT
    while not serve.results and time.monotonic() < deadline:
        time.sleep(0.01)
    assert serve.results == [pattern(0, size)]
    listener.close()


def test_the_guest_finds_nobody(start_vmm, tmp_path):
    vmm = start_vmm(*vsock(tmp_path), kernel=guest("virtio_vsock"), append="mode=connect port=99")
    assert vmm.wait() == 0
    assert "refused\n" in vmm.text()


def test_a_thousand_connections_one_after_the_other(start_vmm, tmp_path):
    listener = Listener(tmp_path / "v", 52, lambda connection: connection.close())
    vmm = start_vmm(*vsock(tmp_path), kernel=guest("virtio_vsock"), append="mode=storm count=1000")
    assert vmm.wait() == 0, vmm.stderr()
    assert "connects=1000\n" in vmm.text()
    listener.close()


# --- stopped and saved

def test_stop_and_cont_in_the_middle_of_a_flood(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *vsock(tmp_path))
    client = Client(tmp_path / "v")
    data = random.Random(3).randbytes(200_000)
    sender = threading.Thread(target=client.socket.sendall, args=(data,))
    sender.start()
    got = b""
    for _ in range(10):
        vmm.qmp.command("stop")
        vmm.qmp.command("cont")
        got += client.receive(1)
    got += client.receive(len(data) - len(got))
    sender.join()
    assert got == data
    quit_by(vmm, client)


@pytest.mark.parametrize("packed", ["off", "on"])
def test_after_each_restore_connections_are_gone_and_new_ones_work(start_vmm, tmp_path, packed):
    vmm = start_ready(start_vmm, *vsock(tmp_path, packed))
    ports = []
    for generation in range(3):
        client = Client(tmp_path / "v")
        client.echo(b"before")
        ports.append(client.port)
        stalled = Client(tmp_path / "v")  # in the middle of it
        stalled.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(1000):
                stalled.socket.send(b"x" * 10_000)
        vmm.qmp.command("stop")
        migrate(vmm, tmp_path / f"saved{generation}")
        vmm.qmp.command("quit")
        assert vmm.wait() == 0
        assert client.socket.recv(1) == b""
        vmm = start_vmm("-incoming", f"file:{tmp_path}/saved{generation}", "-S", *vsock(tmp_path, packed), kernel=guest("virtio_vsock"))
        early = []
        knock = threading.Thread(target=lambda to=early: to.append(Client(tmp_path / "v")))
        vmm.qmp.command("query-status")
        knock.start()
        vmm.qmp.command("cont")
        vmm.wait_for(r"transport=reset\n")
        knock.join()
        early[0].echo(b"knocked early")
        Client(tmp_path / "v").echo(b"x" * 100_000 if generation == 1 else b"after")
    assert ports == sorted(set(ports))
    quit_by(vmm, Client(tmp_path / "v"))


def test_a_machine_that_goes_on_after_it_was_saved_keeps_its_connections(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *vsock(tmp_path))
    client = Client(tmp_path / "v")
    client.echo(b"before")
    vmm.qmp.command("stop")
    migrate(vmm, tmp_path / "saved")
    vmm.qmp.command("cont")
    client.echo(b"after")
    clone = start_vmm("-incoming", f"file:{tmp_path}/saved", *vsock(tmp_path, name="w"), kernel=guest("virtio_vsock"))
    clone.wait_for(r"transport=reset\n")
    other = Client(tmp_path / "w")
    other.echo(b"clone")
    client.echo(b"original")
    assert "transport" not in vmm.text()
    quit_by(clone, other)
    quit_by(vmm, client)


# --- a hostile driver

# What it does (guests/virtio_vsock.cc) -> what the VMM says of it, the status that the driver sees then, and a value.
CASES = {
    "length_beyond": ("longer than its chain", OK, RESET),
    "length_max": ("of more than 64 KiB", OK, RESET),
    "length_128k": ("of more than 64 KiB", OK, RESET),
    "foreign_source": ("from a context that is not the guest's", OK, 0),
    "foreign_destination": ("to a context that is not the host's", OK, 0),
    "unknown_operations": ("of an unknown operation", OK, 5),
    "unknown_operation_on_open": ("of an unknown operation", OK, RESET),
    "unknown_types": ("of a type that is not stream", OK, 4),
    "without_connection": (None, OK, 5),
    "second_request": ("is against its state or credit", OK, RESET),
    "response_to_nothing": ("is against its state or credit", OK, RESET),
    "buffer_0": (None, OK, CREDIT_REQUEST),
    "buffer_max": (None, OK, READ_WRITE),
    "forwarded_back": (None, OK, CREDIT_UPDATE),
    "forwarded_beyond": (None, OK, CREDIT_UPDATE),
    "over_credit": ("is against its state or credit", OK, RESET),
    "half_closed": (None, OK, CREDIT_UPDATE),
    "send_after_end": ("is against its state or credit", OK, RESET),
    "connects": (None, OK, 10_000),
    "too_many": (None, OK, 1024),
    "never_filled": (None, OK, 0),
    "header_0": ("without a whole header", OK, 1),
    "header_43": ("without a whole header", OK, 1),
    "writable": ("without a whole header", OK, 1),
    "hole": ("", NEEDS_RESET, 0),
    "mmio": ("", NEEDS_RESET, 0),
    "wrapping": ("", NEEDS_RESET, 0),
    "loop": ("", NEEDS_RESET, 0),
    "receive_hole": ("", NEEDS_RESET, 0),
    "receive_tiny": ("a receive buffer without room for a packet", OK, 0),
    "receive_readable": ("a receive buffer without room for a packet", OK, 0),
    "head_beyond": ("", NEEDS_RESET, 0),
    "avail_jump": ("", NEEDS_RESET, 0),
    "absent_queue": ("notification of a queue that does not run", OK, RESPONSE),
    "write_config": ("write to read-only configuration", OK, 42),
    "resets": (None, 0, 0),
}
SPLIT_ONLY = ("head_beyond", "avail_jump")
TALKATIVE = ("buffer_0", "buffer_max")


@pytest.mark.parametrize("packed, case", [*(("off", case) for case in CASES), *(("on", case) for case in CASES if case not in SPLIT_ONLY)])
def test_a_hostile_driver_harms_nobody_and_the_device_recovers(start_vmm, tmp_path, packed, case):
    said, status, value = CASES[case]
    listener = Listener(tmp_path / "v", 52, (lambda connection: connection.sendall(b"welcome")) if case in TALKATIVE else nothing)
    vmm = start_vmm(*vsock(tmp_path, packed), kernel=guest("virtio_vsock"), append=f"bad={case} wait")
    vmm.wait_for(rf"bad={case} {status:#x} {value:#x}\n")
    assert vmm.memory_kib("Private_Dirty", outside=16 << 10) < 4096
    busy = cpu_seconds(vmm, "io")
    time.sleep(0.3)
    assert cpu_seconds(vmm, "io") - busy < 0.1
    vmm.write(b"k")
    vmm.wait_for(r"vsock=ready\n")
    client = Client(tmp_path / "v")
    client.echo(b"ping")
    # What the hostile driver had open has ended.
    for connection in listener.accepted:
        with contextlib.suppress(ConnectionResetError):  # it had not read all
            while connection.recv(65536):
                pass
    quit_by(vmm, client)
    listener.close()
    errors = vmm.stderr()
    if said is None:
        assert errors == ""
    else:
        assert said in errors and "WARN" in errors
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


def test_a_quit_with_connections_open_ends_the_process(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *vsock(tmp_path))
    clients = [Client(tmp_path / "v") for _ in range(5)]
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    for client in clients:
        assert select.select([client.socket], [], [], LIMIT)[0]
        assert client.socket.recv(1) == b""
