"""virtio_console: consoles and serial ports of a guest over every chardev, whatever the guest, the host or both do to them."""
import fcntl
import os
import pty
import random
import re
import select
import socket
import struct
import termios
import threading
import time

import pytest
from vmm import SCALE, device_line, guest, machines, run_to_end

OK, NEEDS_RESET = 0xf, 0x4f
LIMIT = 60 * SCALE


def pattern(start, count):
    return bytes(position * 7 % 251 for position in range(start, start + count))


class Client:
    """One end of a byte stream on the host: reads until something is there, with a time limit."""

    def __init__(self, address):
        deadline = time.monotonic() + LIMIT
        while True:
            self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            try:
                self.socket.connect(address)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.socket.settimeout(LIMIT)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(65536)
            assert piece, f"the connection ended after {data!r}"
            data += piece
        return data

    def receive_all(self):
        """Until the other end has gone."""
        data = b""
        while piece := self.socket.recv(65536):
            data += piece
        return data

    def echo(self, data):
        self.send(data)
        assert self.receive(len(data)) == data

    def close(self):
        self.socket.close()


def unix(path, extra=",server,nowait"):
    return ("-chardev", f"socket,id=c{os.path.basename(path)},path={path}{extra}")


def two_ports(tmp_path, max_ports=4, packed="off"):
    """A console as port 0 and a named port 1, each on a unix socket, with room for two more."""
    return (*unix(f"{tmp_path}/0"), *unix(f"{tmp_path}/1"), "-device", f"virtio-serial-device,id=s,max-ports={max_ports},packed={packed}",
            "-device", "virtconsole,chardev=c0,id=con,nr=0", "-device", "virtserialport,chardev=c1,id=port,nr=1,name=org.agent")


def start_ready(start_vmm, *extra, **options):
    vmm = start_vmm(*extra, kernel=guest("virtio_console"), **options)
    vmm.wait_for(r"console=ready\n")
    return vmm


def quit_by(vmm, client):
    client.send(b"quit\n")
    assert vmm.wait() == 0, vmm.stderr()
    assert "console=end" in vmm.text()


def migrate(vmm, directory):
    vmm.qmp.command("migrate", uri=f"file:{directory}")
    while (status := vmm.qmp.command("query-migrate").get("status")) not in ("completed", "failed"):
        time.sleep(0.02)
    assert status == "completed"


def cpu_seconds(vmm, name):
    """Time that the threads of this name have run."""
    ticks = 0
    for task in os.listdir(f"/proc/{vmm.pid}/task"):
        with open(f"/proc/{vmm.pid}/task/{task}/stat") as stat:
            before, _, after = stat.read().rpartition(")")
        if before.partition("(")[2] == name:
            ticks += sum(map(int, after.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


# --- one console, many ports

@pytest.mark.parametrize("machine", machines())
def test_a_single_console_has_two_queues_and_echoes(start_vmm, tmp_path, machine):
    vmm = start_ready(start_vmm, *unix(f"{tmp_path}/0"), "-device", "virtio-serial-device,id=virtio-serial0", "-device",
                      "virtconsole,chardev=c0,id=virtio-console0,nr=0", machine=machine)
    values = vmm.values()
    assert re.fullmatch(device_line(3), values["device"])
    assert values["config"] == "0x0 1"
    assert not int(values["features"], 16) & 2
    client = Client(f"{tmp_path}/0")
    client.echo(b"hello")
    client.echo(bytes(range(256)))
    quit_by(vmm, client)
    assert vmm.stderr() == ""


def test_ports_introduce_themselves_and_echo(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *two_ports(tmp_path))
    console, port = Client(f"{tmp_path}/0"), Client(f"{tmp_path}/1")
    vmm.wait_for(r"port\.1=open 1\n")
    console.echo(b"console")
    port.echo(b"port")
    quit_by(vmm, port)
    lines = [line for line in vmm.text().splitlines() if line.startswith("port.")]
    assert sorted(lines) == ["port.0=add", "port.0=console", "port.0=open 1", "port.1=add", "port.1=name org.agent", "port.1=open 1"]


def test_packed_rings_and_a_thread_of_its_own_serve_as_well(start_vmm, tmp_path):
    options = list(two_ports(tmp_path, packed="on"))
    options[options.index("virtio-serial-device,id=s,max-ports=4,packed=on")] += ",iothread=t"
    vmm = start_ready(start_vmm, "-object", "iothread,id=t", *options)
    client = Client(f"{tmp_path}/1")
    client.echo(b"x" * 10000)
    quit_by(vmm, client)


def test_tcp_pty_and_file(start_vmm, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tcp = probe.getsockname()
    vmm = start_ready(start_vmm, "-chardev", f"socket,id=t,host=127.0.0.1,port={tcp[1]},server,nowait", "-chardev", "pty,id=p", "-chardev",
                      f"file,id=f,path={tmp_path}/out", "-device", "virtio-serial-device,id=s", "-device", "virtconsole,chardev=f,id=df",
                      "-device", "virtserialport,chardev=t,id=dt", "-device", "virtserialport,chardev=p,id=dp")
    client = Client(tcp)
    client.echo(b"over tcp")
    terminal = os.open(re.search(r"redirected to (/dev/pts/\d+) \(label p\)", vmm.stderr())[1], os.O_RDWR | os.O_NOCTTY)
    os.write(terminal, b"over a pty")
    data = b""
    while len(data) < 10:
        assert select.select([terminal], [], [], LIMIT)[0]
        data += os.read(terminal, 100)
    os.close(terminal)
    assert data == b"over a pty"
    quit_by(vmm, client)


@pytest.mark.parametrize("kind", ["file", "null", "redirect-to-log"])
def test_a_chardev_that_only_takes(start_vmm, tmp_path, kind):
    path = f",path={tmp_path}/out" if kind == "file" else ""
    vmm = start_vmm("-chardev", f"{kind},id=c{path}", "-device", "virtio-serial-device,id=s,max-ports=3", "-device",
                    "virtserialport,chardev=c,id=d,nr=1", kernel=guest("virtio_console"), append="mode=stream bytes=100000")
    vmm.wait_for(r"console=ready\n")
    if kind == "file":
        deadline = time.monotonic() + LIMIT
        while os.path.getsize(tmp_path / "out") < 100000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "out").read_bytes() == pattern(0, 100000)
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


def test_an_emergency_write_needs_no_driver(start_vmm, tmp_path):
    run_to_end(start_vmm, "-chardev", f"file,id=c,path={tmp_path}/out", "-device", "virtio-serial-device,id=s", "-device",
               "virtconsole,chardev=c,id=d", kernel=guest("virtio_console"), append="mode=emergency")
    assert (tmp_path / "out").read_bytes() == b"help\n"


# --- the terminal

def test_the_size_of_the_terminal_reaches_the_guest(start_vmm, tmp_path):
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    vmm = start_vmm("-chardev", "stdio,id=c0", "-chardev", f"file,id=log,path={tmp_path}/log", *unix(f"{tmp_path}/1"), "-device",
                    "virtio-serial-device,id=s", "-device", "virtconsole,chardev=c0,id=con", "-device", "virtserialport,chardev=c1,id=p",
                    kernel=guest("virtio_console"), serial="chardev:log", stdin=slave, stdout=slave)
    log = tmp_path / "log"

    def wait_for(text):
        deadline = time.monotonic() + LIMIT
        while text not in (log.read_text() if log.exists() else ""):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)

    wait_for("console=ready")
    wait_for("config=80x25 2")
    wait_for("port.0=size 80x25")
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    vmm.signal(28)  # SIGWINCH: the terminal is not the one that controls the VMM here
    wait_for("port.0=size 132x50")
    os.write(master, b"\x01x")
    assert vmm.wait() == 0
    os.close(master)
    os.close(slave)


# --- floods

@pytest.mark.parametrize("packed", ["off", "on"])
def test_a_flood_both_ways_arrives_whole(start_vmm, tmp_path, packed):
    vmm = start_ready(start_vmm, *two_ports(tmp_path, packed=packed))
    client = Client(f"{tmp_path}/1")
    data = random.Random(4).randbytes(8 << 20)
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    got = client.receive(len(data))
    sender.join()
    assert got == data
    quit_by(vmm, client)


def test_a_console_gets_a_flood_whole(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *two_ports(tmp_path))
    client = Client(f"{tmp_path}/0")
    for _ in range(100):
        client.echo(random.Random(5).randbytes(10000))
    quit_by(vmm, client)


def test_a_reader_that_stalls_holds_a_serial_port_back_and_loses_nothing(start_vmm, tmp_path):
    size = 400_000  # more than the socket and we hold
    vmm = start_vmm(*two_ports(tmp_path), "-S", kernel=guest("virtio_console"), append=f"mode=stream bytes={size}")
    client = Client(f"{tmp_path}/1")
    vmm.qmp.command("cont")
    vmm.wait_for(r"console=ready\n")
    time.sleep(0.3)
    private = vmm.memory_kib("Private_Dirty", outside=16 << 10)
    busy = cpu_seconds(vmm, "io")
    time.sleep(1)
    assert cpu_seconds(vmm, "io") - busy < 0.2
    assert vmm.memory_kib("Private_Dirty", outside=16 << 10) - private < 1024
    sender = threading.Thread(target=client.send, args=(pattern(0, size),))
    sender.start()
    assert client.receive(size) == pattern(0, size)
    sender.join()
    assert vmm.wait() == 0
    assert f"stream.in={size}\nstream.out={size}\n" in vmm.text()


# --- the host comes and goes

def test_clients_come_and_go(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *two_ports(tmp_path))
    for _ in range(3):
        at = len(vmm.bytes())
        client = Client(f"{tmp_path}/1")
        vmm.wait_for(r"port\.1=open 1\n", start=0 if at == 0 else max(0, at - 16))
        client.echo(b"hello")
        client.close()
        vmm.wait_for(r"port\.1=open 0\n", start=at)
    quit_by(vmm, Client(f"{tmp_path}/1"))


def test_what_a_client_sent_before_it_left_arrives(start_vmm, tmp_path):
    vmm = start_vmm(*two_ports(tmp_path), kernel=guest("virtio_console"), append="mode=stream bytes=100000 hold")
    vmm.wait_for(r"console=ready\n")
    client = Client(f"{tmp_path}/1")
    client.send(pattern(0, 100000))
    client.close()
    vmm.wait_for(r"port\.1=open 0\n")
    vmm.write(b"k")
    assert vmm.wait() == 0
    assert "stream.in=100000\n" in vmm.text()


def test_a_host_that_closes_in_the_middle_of_a_write_frees_the_guest(start_vmm, tmp_path):
    size = 600_000  # more than the socket and we hold
    vmm = start_vmm(*two_ports(tmp_path), "-S", kernel=guest("virtio_console"), append=f"mode=stream bytes={size}")
    client = Client(f"{tmp_path}/1")
    vmm.qmp.command("cont")
    vmm.wait_for(r"console=ready\n")
    assert client.receive(1000)[:1000] == pattern(0, 1000)
    client.close()
    second = Client(f"{tmp_path}/1")
    drain = threading.Thread(target=second.receive_all)
    drain.start()
    second.send(pattern(0, size))
    assert vmm.wait() == 0, vmm.stderr()
    drain.join()
    assert f"stream.in={size}\n" in vmm.text() and f"stream.out={size}\n" in vmm.text()


def test_a_guest_that_writes_to_nobody_goes_on(start_vmm, tmp_path):
    vmm = start_vmm(*two_ports(tmp_path), kernel=guest("virtio_console"), append="mode=stream bytes=300000 hold")
    vmm.wait_for(r"console=ready\n")
    vmm.write(b"k")
    time.sleep(0.5)
    client = Client(f"{tmp_path}/1")
    threading.Thread(target=client.receive_all).start()  # if the guest is not through yet
    client.send(pattern(0, 300000))
    assert vmm.wait() == 0
    assert "stream.out=300000\n" in vmm.text()


# --- saved in the middle

def test_a_save_in_the_middle_of_a_stream_neither_loses_nor_doubles_a_byte(start_vmm, tmp_path):
    size = 300_000
    append = f"mode=stream bytes={size} hold"
    first = start_vmm(*two_ports(tmp_path), "-S", kernel=guest("virtio_console"), append=append)
    client = Client(f"{tmp_path}/1")
    first.qmp.command("cont")
    first.wait_for(r"console=ready\n")
    client.send(pattern(0, 8000))  # as much as we hold for a guest that gives no buffers
    deadline = time.monotonic() + LIMIT
    while struct.unpack("i", fcntl.ioctl(client.socket, termios.TIOCOUTQ, b"\0\0\0\0"))[0] != 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.qmp.command("stop")
    migrate(first, f"{tmp_path}/saved")
    reader = []
    thread = threading.Thread(target=lambda: reader.append(client.receive_all()))
    thread.start()
    first.qmp.command("quit")
    assert first.wait() == 0
    thread.join()

    second = start_vmm("-incoming", f"file:{tmp_path}/saved", "-S", *two_ports(tmp_path), kernel=guest("virtio_console"), append=append)
    client = Client(f"{tmp_path}/1")
    second.qmp.command("cont")
    second.write(b"k")
    sender = threading.Thread(target=client.send, args=(pattern(8000, size - 8000),))
    sender.start()
    got = reader[0] + client.receive(size - len(reader[0]))
    sender.join()
    assert second.wait() == 0, second.stderr()
    assert got == pattern(0, size)
    assert f"stream.in={size}\nstream.out={size}\n" in second.text()


def test_stop_and_cont_in_the_middle_of_a_flood(start_vmm, tmp_path):
    vmm = start_ready(start_vmm, *two_ports(tmp_path))
    client = Client(f"{tmp_path}/1")
    data = random.Random(6).randbytes(4 << 20)
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    got = b""
    while len(got) < len(data):
        if len(got) % 7 == 0:
            vmm.qmp.command("stop")
            vmm.qmp.command("cont")
        got += client.receive(1)
    sender.join()
    assert got == data
    quit_by(vmm, client)


# --- a hostile driver

# What it does (guests/virtio_console.cc) -> what the VMM says of it, the status that the driver sees then, and a value.
CASES = {
    "ctrl_port_max": ("for a port that is not there", OK, 11),
    "ctrl_absent_port": ("for a port that is not there", OK, 3),
    "ctrl_early": ("before DEVICE_READY", OK, 0),
    "ctrl_0": ("shorter than 8 bytes", OK, 2),
    "ctrl_7": ("shorter than 8 bytes", OK, 2),
    "ctrl_long": (None, OK, 2),
    "ctrl_writable": ("shorter than 8 bytes", OK, 2),
    "ctrl_events": ("of a kind that no driver sends", OK, 9),
    "ctrl_flood": (None, OK, 2000),
    "ctrl_tiny_7": ("finds a buffer of 7 bytes only", OK, 0),
    "ctrl_tiny_0": ("finds a buffer of 0 bytes only", OK, 0),
    "no_control": (None, OK, 1),  # KVM rings the doorbell, and nobody listens
    "no_multiport": (None, OK, 0),
    "rx_no_room": ("a receive buffer without room for a byte", OK, 2),
    "tx_writable": (None, OK, 1),
    "tx_empty": (None, OK, 1),
    "tx_hole": ("", NEEDS_RESET, 0),
    "tx_mmio": ("", NEEDS_RESET, 0),
    "tx_wrapping": ("", NEEDS_RESET, 0),
    "tx_loop": ("", NEEDS_RESET, 0),
    "tx_next_beyond": ("", NEEDS_RESET, 0),
    "tx_head_beyond": ("", NEEDS_RESET, 0),
    "tx_avail_jump": ("", NEEDS_RESET, 0),
    "rx_hole": ("", NEEDS_RESET, 0),
    "tx_huge": (None, OK, 0),
    "absent_queue": ("notification of a queue that does not run", OK, 0),
    "write_config": ("write to read-only configuration", OK, 4),
    "resets": (None, 0, 0),
}
SPLIT_ONLY = ("tx_next_beyond", "tx_head_beyond", "tx_avail_jump")
EARLY = ("rx_no_room", "rx_hole")  # these need something that comes in


@pytest.mark.parametrize("packed, case", [*(("off", case) for case in CASES), *(("on", case) for case in CASES if case not in SPLIT_ONLY)])
def test_a_hostile_driver_harms_nobody_and_the_device_recovers(start_vmm, tmp_path, packed, case):
    said, status, value = CASES[case]
    vmm = start_vmm(*two_ports(tmp_path, packed=packed), *(("-S",) if case in EARLY else ()), kernel=guest("virtio_console"), append=f"bad={case}")
    early = b""
    if case in EARLY:
        early = b"early"
        client = Client(f"{tmp_path}/1")
        client.send(early)
        vmm.qmp.command("cont")
    vmm.wait_for(r"console=ready\n")
    assert f"bad={case} {status:#x} {value:#x}\n" in vmm.text()
    if not early:
        client = Client(f"{tmp_path}/1")
    client.send(b"ping")
    assert client.receive(len(early) + 4)[-len(early) - 4:] == early + b"ping"
    console = Client(f"{tmp_path}/0")
    console.echo(b"pong")
    quit_by(vmm, console)
    errors = vmm.stderr()
    if said is None:
        assert errors == ""
    else:
        assert said in errors and "WARN" in errors
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


def test_a_receive_queue_that_is_never_filled_costs_nothing_while_the_host_floods(start_vmm, tmp_path):
    vmm = start_vmm(*two_ports(tmp_path), kernel=guest("virtio_console"), append="bad=never_filled wait")
    vmm.wait_for(r"bad=never_filled 0xf 0x0\n")
    client = Client(f"{tmp_path}/1")
    before = vmm.memory_kib("Private_Dirty", outside=16 << 10)
    client.socket.setblocking(False)
    sent = 0
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            sent += client.socket.send(pattern(sent, 10000))
        except BlockingIOError:
            time.sleep(0.01)
    client.socket.setblocking(True)
    assert sent > 2 * 4096
    busy = [cpu_seconds(vmm, name) for name in ("io", "stratovirt")]
    time.sleep(1)
    assert [cpu_seconds(vmm, name) for name in ("io", "stratovirt")] == pytest.approx(busy, abs=0.1)
    assert vmm.memory_kib("Private_Dirty", outside=16 << 10) - before <= 1024
    vmm.write(b"k")
    assert client.receive(sent) == pattern(0, sent)  # not a byte was lost meanwhile
    client.echo(b"ping")
    quit_by(vmm, client)


def test_a_quit_while_a_guest_waits_for_a_stalled_reader_ends_the_process(start_vmm, tmp_path):
    vmm = start_vmm(*two_ports(tmp_path), "-S", kernel=guest("virtio_console"), append="mode=stream bytes=10000000")
    client = Client(f"{tmp_path}/1")
    vmm.qmp.command("cont")
    vmm.wait_for(r"console=ready\n")
    time.sleep(0.2)
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    client.close()


# --- options

SERIAL = ("-device", "virtio-serial-device,id=s")


@pytest.mark.parametrize("options, message", [
    (("-device", "virtconsole,chardev=c0,id=d"), "-device d: needs a -device virtio-serial-device before it"),
    ((*SERIAL, "-device", "virtconsole,chardev=x,id=d"), "no -chardev has id=x: add one"),
    ((*SERIAL, "-device", "virtconsole,id=d"), "needs chardev="),
    ((*SERIAL, "-device", "virtconsole,chardev=c0,id=d", "-device", "virtserialport,chardev=c0,id=e"), "-device d uses it already"),
    ((*SERIAL, "-device", "virtserialport,chardev=c0,id=d,nr=0"), "number 0 is for a virtconsole"),
    ((*SERIAL, "-device", "virtconsole,chardev=c0,id=d,nr=31"), "must be 0..30"),
    (("-device", "virtio-serial-device,id=s,max-ports=32"), "must be 1..31"),
    (("-device", "virtio-serial-device,id=s,max-ports=1", "-device", "virtserialport,chardev=c0,id=d"), "must be less than max-ports=1"),
    ((*SERIAL, "-device", "virtio-serial-device,id=t"), "there can be one virtio-serial-device only"),
    (("-chardev", "socket,id=r,path=/tmp/r,server,reconnect=2"), "reconnect= is for clients"),
])
def test_a_wrong_option_is_named(start_vmm, tmp_path, options, message):
    vmm = start_vmm(*unix(f"{tmp_path}/0"), *options, kernel=guest("virtio_console"))
    assert vmm.wait() == 1
    assert message in vmm.stderr()
