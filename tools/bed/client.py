"""The client's end: runs one command in a bed that is up and behaves as if it were that command."""

import errno
import fcntl
import marshal
import os
import random
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty

import wire
from packages import Failure

GRACE_SECONDS = 10  # between a polite signal and the end; everything is slow in a bed
TIMED_OUT = 124  # as timeout(1) has it
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class BedGone(Failure):
    pass


class Port:
    """A connection to one of the bed's ports, ours alone while it is open."""

    def __init__(self, folder, deadline, is_alive):
        self._is_alive = is_alive
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._lock = self._take_free_port(deadline)
            self._connect(deadline)
        except BaseException:
            os.close(self._folder_fd)
            raise

    def _take_free_port(self, deadline):
        while time.monotonic() < deadline:
            names = [name for name in os.listdir(self._folder_fd) if name.startswith("port") and name[4:].isdigit()]
            if not names and not self._is_alive():
                raise BedGone("no bed runs there")
            random.shuffle(names)
            for name in names:
                lock = os.open(f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._folder_fd)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.name = name
                    return lock
                except BlockingIOError:
                    os.close(lock)
            time.sleep(0.1)
        raise Failure("every port of the bed is busy")

    def _connect(self, deadline):
        """Says hello until the agent answers; a hello that met the end of an earlier client is lost."""
        patience = 5.0
        while time.monotonic() < deadline:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(patience)  # a QEMU that stands still accepts nothing
            try:
                self.socket.connect(f"/proc/self/fd/{self._folder_fd}/{self.name}")  # a path of any length
            except OSError as error:
                self.socket.close()
                if not self._is_alive():
                    raise BedGone("the bed is gone") from error
                time.sleep(0.3)  # it hangs, or is being started anew
                continue
            nonce = os.urandom(16)
            if self._hello(nonce, min(deadline, time.monotonic() + patience)):
                return
            self.socket.close()
            patience *= 2
            time.sleep(0.3)
        raise Failure("the bed does not answer")

    def _hello(self, nonce, until):
        answer = wire.frame(wire.READY, nonce)
        seen = b""
        try:
            self.socket.sendall(wire.frame(wire.HELLO, nonce))
        except OSError:
            return False
        while (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(wire.CHUNK)
            except OSError:  # nothing came in time
                return False
            if not data:  # the bed ended
                return False
            seen += data
            if answer in seen:  # anything before it was meant for somebody else
                self.socket.settimeout(None)
                return True
            seen = seen[-len(answer):]
        return False

    def close(self):
        self.socket.close()
        os.close(self._lock)
        os.close(self._folder_fd)


class Terminal:
    """Our terminal in raw mode while the command has one of its own."""

    def __init__(self):
        self.used = os.isatty(0) and os.isatty(1)

    def __enter__(self):
        if self.used:
            self._saved = termios.tcgetattr(0)
            tty.setraw(0)
        return self

    def __exit__(self, *_):
        if self.used:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)

    def size(self):
        return struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))[:2]


class Run:
    """One command: forwards input, output and signals until its exit code comes."""

    def __init__(self, port, terminal, timeout):
        self._port = port
        self._socket = port.socket
        self._terminal = terminal
        self._parser = wire.Parser()
        self._exit_code = None
        self._forced_code = None
        self._stdin_open = True
        self._under_way = 0
        self._deadline = time.monotonic() + timeout if timeout else None
        self._kill_at = None
        self._kills = 0

    def to_end(self, argv, env):
        tty_size = self._terminal.size() if self._terminal.used else None
        umask = os.umask(0o077)
        os.umask(umask)
        request = {"argv": argv, "cwd": os.getcwd(), "env": dict(env), "umask": umask, "tty": tty_size}
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (*FORWARDED, signal.SIGWINCH):
            if number == signal.SIGWINCH or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        self._send(wire.START, marshal.dumps(request))
        while self._exit_code is None:
            self._step(wake_read)
        return self._exit_code if self._forced_code is None else self._forced_code

    def _send(self, kind, payload=b""):
        try:
            self._socket.sendall(wire.frame(kind, payload))
        except OSError as error:
            raise BedGone("the bed ended while the command ran") from error

    def _step(self, wake):
        sources = [self._socket, wake]
        if self._stdin_open and self._under_way < wire.WINDOW:
            sources.append(0)
        ready = select.select(sources, [], [], self._patience())[0]
        if wake in ready:
            for number in os.read(wake, 64):
                self._on_signal(number)
        if self._socket in ready:
            self._receive()
        if 0 in ready:
            self._read_stdin()
        self._check_time()

    def _patience(self):
        until = [moment for moment in (self._deadline, self._kill_at) if moment]
        return max(0.0, min(until) - time.monotonic()) if until else None

    def _check_time(self):
        now = time.monotonic()
        if self._deadline and now >= self._deadline:
            self._deadline = None
            self._forced_code = TIMED_OUT
            self._ask_to_end(signal.SIGTERM)
        if self._kill_at and now >= self._kill_at:
            self._kill_at = now + GRACE_SECONDS
            self._kills += 1
            if self._kills > 3:
                raise BedGone("the bed does not answer any more")
            self._send(wire.KILL)

    def _ask_to_end(self, number):
        self._send(wire.SIGNAL, bytes([number]))
        self._kill_at = self._kill_at or time.monotonic() + GRACE_SECONDS

    def _on_signal(self, number):
        if number == signal.SIGWINCH:
            if self._terminal.used:
                self._send(wire.RESIZE, struct.pack(">HH", *self._terminal.size()))
        elif number in FORWARDED:
            self._ask_to_end(number)

    def _read_stdin(self):
        try:
            data = os.read(0, wire.CHUNK)
        except OSError:
            data = b""
        self._stdin_open = bool(data)
        self._under_way += len(data)
        self._send(wire.STDIN, data)

    def _receive(self):
        try:
            data = self._socket.recv(wire.CHUNK)
        except OSError:
            data = b""
        if not data:
            raise BedGone("the bed ended while the command ran")
        for kind, payload in self._parser.feed(data):
            if kind == wire.STDOUT:
                self._write(1, payload)
            elif kind == wire.STDERR:
                self._write(2, payload)
            elif kind == wire.TAKEN:
                self._under_way -= struct.unpack(">I", payload)[0]
            elif kind == wire.EXIT:
                self._exit_code = payload[0]

    def _write(self, fd, data):
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view):]
        except BlockingIOError:
            select.select([], [fd], [])
            self._write(fd, view)
        except OSError as error:
            if error.errno == errno.EPIPE:  # nobody reads: the command gets what it would have got by itself
                self._ask_to_end(signal.SIGPIPE)
            else:
                raise Failure(f"cannot pass on the command's output: {error.strerror}") from error


def run_in_bed(folder, argv, env, timeout, boot_seconds, is_alive):
    """Runs argv in the bed of `folder`, waiting so long for it to come up while it is alive; returns the exit code."""
    port = Port(folder, time.monotonic() + boot_seconds, is_alive)
    try:
        with Terminal() as terminal:
            return Run(port, terminal, timeout).to_end(argv, env)
    finally:
        sys.stdout.flush()
        port.close()
