"""The bed's process 1: runs the commands that come in over the virtio-serial ports, several at once.

Runs inside the bed with Debian's Python from the host's files, so it imports little: every module costs time there.
"""

import fcntl
import marshal
import os
import select
import signal
import stat
import struct
import sys
import termios

import wire

CGROUPS = "/sys/fs/cgroup"
OUTPUT_LIMIT = 4 * wire.CHUNK  # output waiting for the client; beyond it the command has to wait


class Loop:
    """Callbacks by file descriptor, edge-triggered: a port without a client would report its hang-up for ever."""

    def __init__(self):
        self._epoll = select.epoll()
        self._callbacks = {}

    def add(self, fd, callback):
        os.set_blocking(fd, False)
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def remove(self, fd):
        if self._callbacks.pop(fd, None):
            self._epoll.unregister(fd)
            os.close(fd)

    def run(self):
        while True:
            for fd, events in self._epoll.poll():
                callback = self._callbacks.get(fd)
                try:
                    if callback:
                        callback(events)
                except Exception:  # process 1 must live: the other commands need it
                    sys.excepthook(*sys.exc_info())


class Command:
    """One running command: its processes (a cgroup, so that no daemon escapes a kill) and our ends of its streams."""

    def __init__(self, session, request):
        self._session = session
        self._loop = session.loop
        self._cgroup = f"{CGROUPS}/command.{session.name}.{session.next_number()}"
        os.mkdir(self._cgroup)
        self._pending = bytearray()  # stdin not yet taken by the command
        self._stdin_ended = False
        self._leaves_nothing = False
        self.outputs = {}  # fd: kind
        self.tty = request["tty"] is not None
        if self.tty:
            self.stdin, child_end = os.openpty()
            self.resize(*request["tty"])
            streams = (child_end,) * 3
            self.outputs[self.stdin] = wire.STDOUT
        else:
            (child_in, self.stdin), (out, child_out), (err, child_err) = os.pipe(), os.pipe(), os.pipe()
            streams = (child_in, child_out, child_err)
            self.outputs = {out: wire.STDOUT, err: wire.STDERR}
        self.pid = os.fork()
        if self.pid == 0:
            self._become(request, streams)
        for fd in set(streams):
            os.close(fd)
        for fd in {self.stdin, *self.outputs}:
            self._loop.add(fd, lambda _events: session.pump())

    def _become(self, request, streams):
        try:
            os.setsid()
            os.setpriority(os.PRIO_PROCESS, 0, 0)
            with open(f"{self._cgroup}/cgroup.procs", "w") as procs:
                procs.write("0")
            for target, fd in enumerate(streams):
                os.dup2(fd, target)
            if self.tty:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.umask(request["umask"])
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(request["cwd"])
            os.execvpe(request["argv"][0], request["argv"], request["env"])
        except OSError as error:
            os.write(2, f"with-kvm: {request['argv'][0]}: {error.strerror}\n".encode(errors="replace"))
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)
        finally:
            os._exit(126)

    def resize(self, rows, columns):
        if self.tty:
            fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def feed(self, data):
        if data:
            self._pending += data
        else:
            self._stdin_ended = True

    def progress(self):
        """Moves what can be moved between the session and the streams."""
        self._pass_input()
        for fd in list(self.outputs):
            self._pass_output(fd)

    def _pass_input(self):
        taken = 0
        try:
            while self._pending and self.stdin is not None:
                count = os.write(self.stdin, self._pending[:wire.CHUNK])
                del self._pending[:count]
                taken += count
        except BlockingIOError:
            pass
        except OSError:  # the command closed its stdin: swallow the rest
            taken += len(self._pending)
            self._pending.clear()
        if taken:
            self._session.send(wire.TAKEN, struct.pack(">I", taken))
        if self._stdin_ended and not self._pending and self.stdin is not None and not self.tty:
            self._loop.remove(self.stdin)
            self.stdin = None

    def _pass_output(self, fd):
        """Passes on what is there, until the pipe is empty or the client is behind."""
        while self._session.has_room():
            try:
                data = os.read(fd, wire.CHUNK)
            except BlockingIOError:
                return
            except OSError:  # a terminal whose last process is gone
                data = b""
            if not data:
                self.outputs.pop(fd, None)
                if fd != self.stdin:
                    self._loop.remove(fd)
                return
            self._session.send(self.outputs[fd], data)

    def signal(self, number):
        """For the whole group; when the command then ends, nothing of it is left behind."""
        self._leaves_nothing = True
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        with open(f"{self._cgroup}/cgroup.kill", "w") as file:
            file.write("1")

    def close(self):
        if self._leaves_nothing:
            self.kill()
        for fd in {self.stdin, *self.outputs} - {None}:
            self._loop.remove(fd)
        try:
            os.rmdir(self._cgroup)
        except OSError:  # a daemon lives on, as it would on the host
            pass


class Session:
    """One port: one client at a time, one command per client."""

    def __init__(self, loop, name):
        self.loop = loop
        self.name = name
        self._fd = os.open(f"/dev/{name}", os.O_RDWR | os.O_CLOEXEC)
        self._number = 0
        self._command = None
        self._exit_code = None  # known, but output may still be under way
        self._out = bytearray()
        self._parser = wire.Parser()
        loop.add(self._fd, self._on_port)

    def next_number(self):
        self._number += 1
        return self._number

    def has_room(self):
        return len(self._out) < OUTPUT_LIMIT

    def send(self, kind, payload):
        self._out += wire.frame(kind, payload)

    def child_ended(self, pid, code):
        if self._command and self._command.pid == pid:
            self._exit_code = code
            self.pump()

    def _on_port(self, _events):
        self.pump()
        try:
            while True:
                data = os.read(self._fd, wire.CHUNK)
                if not data:
                    # No client, or one whose hello overtook the news of its coming: our answer to that has to stay in _out.
                    self._abandon()
                    self._parser = wire.Parser()
                    return
                for kind, payload in self._parser.feed(data):
                    self._on_frame(kind, payload)
        except BlockingIOError:
            self.pump()

    def _on_frame(self, kind, payload):
        if kind == wire.HELLO:
            self._abandon()
            self._out.clear()
            self.send(wire.READY, payload)
        elif kind == wire.START:
            forget_cached_names()
            self._command = Command(self, marshal.loads(payload))
        elif self._command is None:
            pass  # the command has just ended
        elif kind == wire.STDIN:
            self._command.feed(payload)
        elif kind == wire.SIGNAL:
            self._command.signal(payload[0])
        elif kind == wire.RESIZE:
            self._command.resize(*struct.unpack(">HH", payload))
        elif kind == wire.KILL:
            self._command.kill()

    def _abandon(self):
        if self._command:
            self._command.kill()
            self._command.close()
            self._command = self._exit_code = None

    def pump(self):
        """Moves what can be moved without waiting, and ends the command when all it wrote is on its way."""
        while True:
            if self._command:
                self._command.progress()
                if self._exit_code is not None and self.has_room():
                    self._end_command()
            if not self._out or not self._write_out():
                return

    def _write_out(self):
        """False when the client is behind."""
        try:
            while self._out:
                count = os.write(self._fd, self._out[:wire.CHUNK])
                del self._out[:count]
        except BlockingIOError:
            return False
        return True

    def _end_command(self):
        self._command.close()
        self.send(wire.EXIT, bytes([self._exit_code]))
        self._command = self._exit_code = None


def drop_caches(what):
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write(what)


def forget_cached_names():
    """Makes the next look-ups ask the host again; pages of unchanged files stay cached."""
    for _ in range(2):  # overlays first, then what they stood on
        drop_caches("2")


def make_nodes(devname):
    """The device nodes whose opening loads a module, as depmod lists them: name, path, kind and number."""
    for line in open(devname):
        words = line.split()
        if words[0] == "#":
            continue
        path = f"/dev/{words[1]}"
        major, minor = words[2][1:].split(":")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            kind = stat.S_IFCHR if words[2][0] == "c" else stat.S_IFBLK
            os.mknod(path, kind | 0o600, os.makedev(int(major), int(minor)))


def reap(sessions):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        for session in sessions:
            session.child_ended(pid, code if code >= 0 else 128 - code)


def main():
    make_nodes(sys.argv[1])
    os.setpriority(os.PRIO_PROCESS, 0, -15)  # to answer also when guests keep every processor busy
    drop_caches("4")  # from now on without a line in the kernel's log
    loop = Loop()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    sessions = []

    def on_wake(_events):
        try:
            while os.read(wake_read, 512):
                pass
        except BlockingIOError:
            pass
        reap(sessions)

    loop.add(wake_read, on_wake)
    sessions += [Session(loop, name) for name in os.listdir("/dev") if name.startswith("vport")]
    loop.run()


main()
