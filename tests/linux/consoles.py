"""What Debian's kernel does with virtio consoles and ports, by those at the other end: run by tools/with-kvm as `consoles.py SCENARIO IMAGE`."""
import hashlib
import os
import time

from guests import PROMPT, Line, connect, end, perform, start_script

NAME = "org.example.agent"
BYTES = 100 * 1024


def try_login(line, password, pause):
    """Whether it went well. `pause`: login throws away what is typed before it has switched the echo off, after its question."""
    line.expect(r"login: $")
    line.write("root\n")
    line.expect(r"Password: $")
    time.sleep(pause)
    line.write(f"{password}\n")
    return line.expect(rf"({PROMPT})|Login incorrect\r\n")[1] is not None


def log_in(line):
    assert any(try_login(line, "open sesame", pause) for pause in (1, 2, 4, 8))


def use_port(line, path):
    """port.sh at the one end, which is told of by `line`; we at the other end, gone in the middle."""
    data = os.urandom(BYTES)
    with connect(path) as agent:
        line.write(f"/port.sh {NAME} {BYTES}\n")
        agent.sendall(data)
        assert line.expect(r"received (\w+)")[1].decode() == hashlib.md5(data).hexdigest()
        expected = line.expect(r"sent (\w+)")[1].decode()
        received = b""
        while len(received) < BYTES:
            received += agent.recv(65536)
        assert hashlib.md5(received).hexdigest() == expected
        agent.sendall(b"last words")
    line.expect(r"then came 10 bytes and the end")
    line.expect(r"an attempt to be heard ended with 143")
    line.expect(r"waits for somebody")
    with connect(path) as agent:
        assert agent.recv(4096) == b"heard\n"
        line.expect(r"was heard")
        agent.sendall(b"me too\n")
        line.expect(r"read me too")


def login(image, folder, packed="off"):
    """On a console that is a socket: whoever connects finds the session, or a new prompt after its end. Beside it, a port."""
    options = ["-device", f"virtio-serial-device,id=serial0,packed={packed}"]
    for device, name in (("virtconsole", "console"), (f"virtserialport,name={NAME}", "agent")):
        options += ["-chardev", f"socket,id={name},path={folder}/{name},server,nowait", "-device", f"{device},chardev={name},id={name}0"]
    vmm = start_script(image, "login.sh", *options)
    vmm.qmp.command("query-status")  # the sockets are there
    with connect(f"{folder}/console") as peer:
        line = Line(peer.fileno())
        assert not try_login(line, "let me in", 1)
        log_in(line)
        line.write("echo $((6*7)) by $(id -un) on $(tty)\n")
        line.expect(r"42 by root on /dev/hvc0\r\n")
    with connect(f"{folder}/console") as peer:
        line = Line(peer.fileno())
        line.write("echo still $((6*7))\n")
        line.expect(r"still 42\r\n")
        line.write("cut -c35 /sys/bus/virtio/devices/virtio0/features\n")
        line.expect(f"\n{int(packed == 'on')}\r\n")
        use_port(line, f"{folder}/agent")
        line.expect(PROMPT)
        line.write("exit\n")
        line.expect(r"login: $")
    with connect(f"{folder}/console") as peer:
        line = Line(peer.fileno())
        line.write("\n")
        log_in(line)
        line.write("poweroff -f\n")
        end(vmm)
    print("logged in and out")


def login_packed(image, folder):
    login(image, folder, packed="on")


if __name__ == "__main__":
    perform(globals())
