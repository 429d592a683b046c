"""Sockets between the bed and Debian's kernel, by virtio-vsock-device: run by tools/with-kvm as `vsocks.py SCENARIO IMAGE`."""
import hashlib
import os
import queue
import socket
import threading

from guests import LIMIT, end, perform, start, start_script

BYTES = 64 * 1024
PARALLEL = 100


def echo_one(connection):
    with connection:
        while piece := connection.recv(65536):
            connection.sendall(piece)


def serve(path, port, talk):
    """A host program that listens, for the life of this one."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{path}_{port}")
    listening.listen(256)

    def accept():
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def dial(path, port):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(LIMIT)
    connection.connect(path)
    connection.sendall(f"CONNECT {port}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        assert byte, f"refused after {line}"
        line += byte
    assert line.startswith(b"OK ")
    return connection


def exchange(path, results):
    data = os.urandom(BYTES)
    with dial(path, 1024) as connection:
        def send():
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = hashlib.sha256()
        while piece := connection.recv(65536):
            got.update(piece)
        sender.join()
    results.append(got.digest() == hashlib.sha256(data).digest())


def exchange_at_once(path, count):
    results = []
    threads = [threading.Thread(target=exchange, args=(path, results)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * count


def save(vmm, folder):
    vmm.qmp.command("stop")
    vmm.qmp.command("migrate", uri=f"file:{folder}")
    vmm.qmp.wait_status("paused")
    while vmm.qmp.command("query-migrate")["status"] != "completed":
        pass
    vmm.qmp.command("quit")
    assert vmm.wait(LIMIT) == 0, vmm.stderr()


def connections(image, folder, connects=1000, packed="off"):
    """Both ways at once, one after the other, and twice saved and restored with connections open."""
    path = f"{folder}/v"
    serve(path, 52, echo_one)
    kept = []
    serve(path, 53, kept.append)
    last = queue.Queue()
    serve(path, 54, last.put)
    options = ("-device", f"virtio-vsock-device,id=vsock0,guest-cid=42,path={path},packed={packed}")
    words = f"strato.connects={connects}"
    vmm = start_script(image, "vsock.sh", *options, words=words, smp=2)
    vmm.wait_for("vsock: listens", LIMIT)
    exchange_at_once(path, PARALLEL)
    vmm.wait_for(f"vsock: {PARALLEL} of {PARALLEL} came back right", LIMIT)
    vmm.wait_for(f"vsock: {connects} connections", 10 * LIMIT)
    for generation in (1, 2):
        vmm.wait_for("vsock: holds", LIMIT)
        mine = dial(path, 1024)
        save(vmm, f"{folder}/saved{generation}")
        assert mine.recv(1) == b""
        vmm = start(image, "", "-incoming", f"file:{folder}/saved{generation}", *options, smp=2)
        vmm.wait_for("vsock: what was held ended: Connection reset by peer", LIMIT)
        vmm.wait_for("vsock: 10 of 10 came back right", LIMIT)
        exchange_at_once(path, 10)
    last.get(timeout=LIMIT).close()
    text = end(vmm)
    assert "vsock: through" in text
    print("all came back right")


def connections_packed(image, folder):
    connections(image, folder, packed="on")


def many_connections(image, folder):
    connections(image, folder, connects=100_000)


if __name__ == "__main__":
    perform(globals())
