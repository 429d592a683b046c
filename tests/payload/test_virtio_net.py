"""virtio_net: frames of a guest reach a peer on a stream socket and come back, whatever the driver did to the device before."""
import os
import re
import signal
import socket
import struct
import threading
import time

import pytest
from vmm import device_line, forms, guest, machines, run_to_end

OK, NEEDS_RESET = 0xf, 0x4f

# What a hostile driver does (guests/virtio_net.cc) -> what the VMM says of it, the status that the driver sees then, and a value.
CASES = {
    "receive_0": ("refused: a receive buffer of 0 bytes", OK, 8 << 32),
    "receive_11": ("refused: a receive buffer of 11 bytes", OK, 8 << 32),
    "receive_1024_bytes": (None, OK, 1 << 32),
    "receive_tiny_ring": ("a frame of 60012 bytes is lost: the buffers are too short for it", OK, 1 << 32),
    "split_header": (None, OK, 72),
    "no_header": ("refused: a frame without its header", OK, 1),
    "nothing_readable": ("refused: a frame without its header", OK, 1),
    "short_frame": ("refused: a frame shorter than an Ethernet header", OK, 1),
    "long_frame": ("refused: a frame longer than the limit", OK, 1),
    "many_pieces": ("refused: a frame in 1024 pieces", OK, 1),
    "segments_of_no_size": ("refused: ", OK, 1),
    "checksum_past_the_end": ("refused: ", OK, 1),
    "transmit_loop": ("", NEEDS_RESET, 0),
    "receive_on_mmio": ("", NEEDS_RESET, 0),
    "absent_queue": ("notification of a queue that does not run", OK, 0),
    "no_answer": ("refused: a command without room for its answer", OK, 1 << 32 | 0xee),
    "empty_command": ("refused: a command that is too short", OK, 1 << 32 | 1),
    "pairs_0": ("refused: an unknown command", OK, 1 << 32 | 1),
    "pairs_many": ("refused: an unknown command", OK, 1 << 32 | 1),
    "huge_mac_table": ("refused: a MAC table longer than its command", OK, 1 << 32 | 1),
    "forbidden_mac": ("refused: a MAC address that no station can have", OK, 1 << 32 | 1),
    "unknown_command": ("refused: an unknown command", OK, 1 << 32 | 1),
    "resets": (None, 0, 0),
}


class Peer:
    """Returns each frame as it came, to one client after the other."""

    def __init__(self, path):
        self.frames = []
        self.answering = True
        self._path = path
        self._connection = None
        self.listen()

    def listen(self):
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self._path)
        self._listening.listen()
        threading.Thread(target=self._serve, args=(self._listening,), daemon=True).start()

    def _serve(self, listening):
        while True:
            try:
                self._connection, _ = listening.accept()
                echo(self._connection, self)
            except OSError:
                if listening is not self._listening:
                    return

    def close(self):
        """Nobody is there any more."""
        listening, self._listening = self._listening, None
        if listening:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            os.unlink(self._path)
        if self._connection:
            try:
                self._connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was first


def read_exactly(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return b""
        data += piece
    return data


def echo(connection, peer):
    while length := read_exactly(connection, 4):
        frame = read_exactly(connection, struct.unpack(">I", length)[0])
        peer.frames.append(frame)
        if peer.answering:
            connection.sendall(length + frame)


@pytest.fixture
def peer(tmp_path):
    made = Peer(f"{tmp_path}/net")
    yield made
    made.close()


def network(tmp_path, netdev="", device=""):
    return ("-netdev", f"stream,id=n,addr.type=unix,addr.path={tmp_path}/net{netdev}", "-device", f"virtio-net-device,netdev=n,id=net0{device}")


def check_echoes(vmm, frames=16):
    values = vmm.values()
    assert values["echoes"] == str(frames) and values["lost"] == "0", vmm.text() + vmm.stderr()
    assert "net=end" in vmm.text()


@pytest.mark.parametrize("kernel", forms("virtio_net"))
@pytest.mark.parametrize("machine", machines())
def test_frames_go_to_the_peer_and_come_back(start_vmm, tmp_path, peer, kernel, machine):
    vmm = run_to_end(start_vmm, *network(tmp_path), kernel=guest(kernel), machine=machine)
    check_echoes(vmm)
    values = vmm.values()
    assert re.fullmatch(device_line(1), values["device"])
    assert values["mac"] == "525400123456" and values["status"] == "1"
    assert [len(frame) for frame in peer.frames] == [60] * 16
    assert [frame[14] for frame in peer.frames] == list(range(1, 17))
    assert vmm.stderr() == ""


@pytest.mark.parametrize("packed", ["on", "off"])
@pytest.mark.parametrize("size", [14 + 4, 1514, 9000, 60000])
def test_frames_of_any_length_by_either_kind_of_ring(start_vmm, tmp_path, peer, packed, size):
    vmm = run_to_end(start_vmm, *network(tmp_path, device=f",packed={packed},queue-size=64"), kernel=guest("virtio_net"), append=f"bytes={size} frames=4")
    check_echoes(vmm, 4)
    assert [len(frame) for frame in peer.frames] == [size] * 4


def test_a_thousand_frames_come_back_in_order_by_rings_of_64(start_vmm, tmp_path, peer):
    vmm = run_to_end(start_vmm, *network(tmp_path, device=",queue-size=64"), kernel=guest("virtio_net"), append="frames=1000")
    check_echoes(vmm, 1000)


def test_the_device_has_the_address_that_the_user_says(start_vmm, tmp_path, peer):
    vmm = run_to_end(start_vmm, *network(tmp_path, device=",mac=02:00:ca:fe:00:01"), kernel=guest("virtio_net"))
    assert vmm.values()["mac"] == "0200cafe0001"
    check_echoes(vmm)


def test_each_direction_has_a_thread_of_its_own(start_vmm, tmp_path, peer):
    threads = ("-object", "iothread,id=rx", "-object", "iothread,id=tx")
    check_echoes(run_to_end(start_vmm, *threads, *network(tmp_path, device=",rx-iothread=rx,tx-iothread=tx"), kernel=guest("virtio_net"), append="frames=100"), 100)
    paused = start_vmm("-S", *threads, *network(tmp_path, device=",rx-iothread=rx,tx-iothread=tx"), kernel=guest("virtio_net"))
    assert paused.qmp.command("query-status")["status"] == "prelaunch"
    names = paused.thread_names()
    assert names.count("rx") == 1 and names.count("tx") == 1 and "io" not in names, names


def test_a_limit_of_each_direction_makes_frames_wait(start_vmm, tmp_path, peer):
    group = ("-object", "throttle-group,id=slow,x-iops-total=20,x-iops-total-max=1")
    for direction in ("rx", "tx"):
        vmm = start_vmm(*group, *network(tmp_path, device=f",{direction}-throttle-group=slow"), kernel=guest("virtio_net"), append="frames=10")
        vmm.wait_for(r"status=1\n")
        began = time.monotonic()
        assert vmm.wait() == 0
        check_echoes(vmm, 10)
        assert time.monotonic() - began > 0.3


@pytest.mark.parametrize("packed, case", [(packed, case) for packed in ("off", "on") for case in CASES])
def test_a_hostile_driver_harms_nobody_and_the_device_recovers(start_vmm, tmp_path, peer, packed, case):
    said, status, value = CASES[case]
    vmm = start_vmm(*network(tmp_path, device=f",packed={packed}"), kernel=guest("virtio_net"), append=f"bad={case}")
    assert vmm.wait() == 0, vmm.stderr()
    assert f"bad={case} {status:#x} {value:#x}\n" in vmm.text(), vmm.text() + vmm.stderr()
    check_echoes(vmm)
    errors = vmm.stderr()
    if said is None:
        assert errors == ""
    else:
        assert "net0: " + said in errors or "refused: " + said in errors, errors
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


def test_a_link_that_the_user_takes_away_and_gives_back(start_vmm, tmp_path, peer):
    vmm = start_vmm(*network(tmp_path), kernel=guest("virtio_net"), append="link=4 frames=4")
    vmm.wait_for(r"status=1\n")
    vmm.qmp.request("set_link", {"name": "n", "up": False})
    vmm.wait_for(r"link=0 changes=1\n")
    vmm.qmp.command("netlink_set", id="net0", up=True)
    vmm.wait_for(r"link=1 changes=2\n")
    vmm.qmp.request("set_link", {"name": "net0", "up": True})  # no change
    vmm.qmp.command("netlink_set", id="n", up=False)
    vmm.wait_for(r"link=0 changes=3\n")
    vmm.qmp.request("set_link", {"name": "n", "up": True})
    vmm.wait_for(r"link=1 changes=4\n")
    assert vmm.wait() == 0
    check_echoes(vmm, 4)


def test_a_server_that_goes_is_a_link_that_is_down_until_it_is_back(start_vmm, tmp_path, peer):
    vmm = start_vmm(*network(tmp_path, netdev=",reconnect-ms=50"), kernel=guest("virtio_net"), append="link=2 frames=4")
    vmm.wait_for(r"status=1\n")
    peer.close()
    vmm.wait_for(r"link=0 changes=1\n")
    peer.listen()
    vmm.wait_for(r"link=1 changes=2\n")
    assert vmm.wait() == 0
    check_echoes(vmm, 4)


def test_we_may_be_the_server(start_vmm, tmp_path):
    vmm = start_vmm(*network(tmp_path, netdev=",server=on"), kernel=guest("virtio_net"), append="link=1 frames=4")
    vmm.wait_for(r"status=0\n")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{tmp_path}/net")
        vmm.wait_for(r"link=1 changes=1\n")

        class Answering:
            frames = []
            answering = True

        threading.Thread(target=lambda: echo(connection, Answering), daemon=True).start()
        assert vmm.wait() == 0
    check_echoes(vmm, 4)


def test_stop_and_cont_lose_no_frame(start_vmm, tmp_path, peer):
    vmm = start_vmm(*network(tmp_path), kernel=guest("virtio_net"), append="frames=60 bytes=4000")
    vmm.wait_for(r"status=1\n")
    for _ in range(20):
        vmm.qmp.command("stop")
        vmm.qmp.command("cont")
    assert vmm.wait() == 0
    check_echoes(vmm, 60)


def test_a_machine_that_is_saved_in_the_middle_goes_on_with_another_peer(start_vmm, tmp_path, peer):
    saved = tmp_path / "saved"
    # The frame that nobody answers is lost, as on any network; those after it are not.
    words = "frames=20 wait=4000000000"
    first = start_vmm(*network(tmp_path), kernel=guest("virtio_net"), append=words)
    while len(peer.frames) < 3:
        time.sleep(0.001)
    peer.answering = False
    first.qmp.command("stop")
    first.qmp.command("migrate", uri=f"file:{saved}")
    while first.qmp.command("query-migrate").get("status") not in ("completed", "failed"):
        time.sleep(0.02)
    first.qmp.command("quit")
    assert first.wait() == 0
    peer.answering = True
    second = start_vmm("-incoming", f"file:{saved}", *network(tmp_path), kernel=guest("virtio_net"))
    assert second.wait() == 0, second.stderr()
    values = second.values()
    assert int(values["echoes"]) + int(values["lost"]) == 20 and int(values["lost"]) <= 1, second.text()


def test_a_guest_that_resets_finds_the_device_as_new(start_vmm, tmp_path, peer):
    vmm = start_vmm(*network(tmp_path), "-action", "reboot=reset", kernel=guest("virtio_net"), append="end=reset frames=4")
    vmm.wait_for(r"(?s)(echoes=4\n.*){3}")
    assert vmm.process.poll() is None


def test_a_quit_under_load_ends_the_process(start_vmm, tmp_path, peer):
    vmm = start_vmm(*network(tmp_path), kernel=guest("virtio_net"), append="frames=100000")
    while len(peer.frames) < 10:
        time.sleep(0.001)
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


@pytest.mark.parametrize("options, message", [
    (("-device", "virtio-net-device,netdev=n,id=d"), "-device d: netdev=n: no -netdev has id=n"),
    (("-netdev", "stream,id=n,addr.type=unix,addr.path=/nonexistent", "-device", "virtio-net-device,netdev=n,id=d"), "-device d: -netdev n: connecting to unix:/nonexistent"),
    (("-netdev", "tap,id=n,fd=1000", "-device", "virtio-net-device,netdev=n,id=d"), "-device d: -netdev n: fd 1000"),
    (("-netdev", "tap,id=n,fd=1", "-device", "virtio-net-device,netdev=n,id=d"), "fd 1: not a tap interface"),
    (("-netdev", "tap,id=n,ifname=t,vhostfd=9"), "vhostfd= and vhostfds= need vhost=on"),
    (("-netdev", "user,id=n,restrict=on,hostfwd=tcp::1-:1"), "restrict=on and hostfwd= exclude each other"),
    (("-netdev", "tap,id=n,ifname=t,vhost=on", "-object", "throttle-group,id=g", "-device", "virtio-net-device,netdev=n,id=d,rx-throttle-group=g"),
     "-device d: rx-throttle-group= and tx-throttle-group= have no effect"),
    (("-netdev", "vhost-user,id=n,chardev=c"), "unsupported backend"),
])
def test_a_wrong_option_is_named(start_vmm, options, message):
    vmm = start_vmm(*options, kernel=guest("virtio_net"))
    assert vmm.wait() == 1
    assert message in vmm.stderr()


def test_a_user_network_without_passt_says_what_to_install(start_vmm, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    vmm = start_vmm("-netdev", "user,id=n", "-device", "virtio-net-device,netdev=n,id=d", kernel=guest("virtio_net"))
    assert vmm.wait() == 1
    assert "-netdev n: 'passt' cannot be started: install passt" in vmm.stderr()


def test_a_user_network_whose_passt_cannot_work_says_why(start_vmm, monkeypatch, tmp_path):
    program = tmp_path / "passt"
    program.write_text("#!/bin/sh\necho 'No external routable interface' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    vmm = start_vmm("-netdev", "user,id=n", "-device", "virtio-net-device,netdev=n,id=d", kernel=guest("virtio_net"))
    assert vmm.wait() == 1
    assert "-netdev n: passt has ended at once: No external routable interface" in vmm.stderr()


def test_a_passt_that_ends_is_an_event_and_one_that_does_not_ends_with_the_vm(start_vmm, monkeypatch, tmp_path):
    program = tmp_path / "passt"
    answer = r"\0\0\0\052\001\002\003\004\005\006\001\002\003\004\005\006\010\006" + 28 * "A"
    program.write_text(f"#!/bin/sh\necho $$ >>{tmp_path}/pids\nhead -c 46 <&3 >/dev/null\nprintf '{answer}' >&3\nexec cat <&3 >/dev/null\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    options = ("-netdev", "user,id=n", "-device", "virtio-net-device,netdev=n,id=d", "-S")
    vmm = start_vmm(*options, kernel=guest("virtio_net"))
    qmp = vmm.qmp
    os.kill(int((tmp_path / "pids").read_text().split()[0]), signal.SIGKILL)
    assert qmp.wait_event("NETDEV_STREAM_DISCONNECTED")["data"] == {"netdev-id": "n"}
    qmp.command("quit")
    assert vmm.wait() == 0
    vmm = start_vmm(*options, kernel=guest("virtio_net"))
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    assert not os.path.exists(f"/proc/{(tmp_path / 'pids').read_text().split()[1]}")
