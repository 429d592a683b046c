"""Starts the VMM for whole-program tests: serial output with time-outs, QMP, exit codes, and no process left behind.

    def test_something(start_vmm):
        vmm = start_vmm(kernel=guest("report"), append="hello", memory_mib=64)
        assert vmm.wait() == 0
        assert "report=end" in vmm.text()

A test directory's conftest.py puts tests/lib on sys.path and imports the fixture start_vmm. The binary is $STRATOVIRT, else
build/release/bin/stratovirt, else build/dev/bin/stratovirt; the guests are in $STRATO_GUESTS, else beside it in
build/PRESET/guests. The same tests run for each architecture: it is that of the binary, and what differs is asked of
architecture(), forms(), machines(), only_on(). Time-outs are multiplied by $STRATO_TIMEOUT_SCALE (default 1): generous already, slow hosts may raise it.
"""
import contextlib
import functools
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCALE = float(os.environ.get("STRATO_TIMEOUT_SCALE", "1"))
TIMEOUT = 60  # seconds; how long anything may take that should take milliseconds


def binary():
    """Path of the VMM under test."""
    chosen = os.environ.get("STRATOVIRT")
    if chosen:
        return chosen
    for preset in ("release", "dev"):
        path = os.path.join(ROOT, "build", preset, "bin", "stratovirt")
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError("no stratovirt binary: run tools/build, or set STRATOVIRT")


@functools.cache
def architecture():
    """x86_64 or aarch64: what the VMM under test is built for, by its ELF header; without a VMM that of this machine."""
    machines = {62: "x86_64", 183: "aarch64"}
    try:
        with open(binary(), "rb") as file:
            header = file.read(20)
    except OSError:
        return platform.machine()
    return machines.get(int.from_bytes(header[18:20], "little")) if header[:4] == b"\x7fELF" else platform.machine()


def only_on(name, reason):
    """A mark for a test, or a parameter of one, that has nothing to look for on another architecture."""
    return pytest.mark.skipif(architecture() != name, reason=f"{name} only: {reason}")


def forms(name):
    """The kernel files in which a payload guest is built, each another way into the kernel."""
    return [name, f"{name}64", f"{name}64.bin", f"{name}.bzimage"] if architecture() == "x86_64" else [name]


def machines():
    """Values of -machine for kinds of machine that a guest could tell apart."""
    return ["microvm", "microvm,acpi=off"] if architecture() == "x86_64" else ["microvm"]


def device_line(device_id):
    """A pattern for what the guests print of the first virtio-mmio device: base, interrupt and kind."""
    return rf"0xf0100000 5 {device_id}" if architecture() == "x86_64" else rf"0xa000000 \d+ {device_id}"


def guest(name):
    """Path of a payload guest, such as "report"; on x86_64 also "report64" (64-bit entry), "report64.bin" (flat), "report.bzimage"."""
    if "STRATO_GUESTS" in os.environ:
        folders = [os.environ["STRATO_GUESTS"]]
    else:
        presets = ("release", "dev") if architecture() == "x86_64" else (f"{architecture()}-release",)
        folders = [os.path.join(ROOT, "build", preset, "guests") for preset in presets]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(f"no guest {name}: build the target `guests`, or set STRATO_GUESTS")


class Output:
    """What a process writes to a pipe: collected by a thread, so that the process never waits for the test."""

    def __init__(self, stream):
        self._stream = stream
        self._data = bytearray()
        self._ended = False
        self._changed = threading.Condition()
        self._thread = None

    def start(self):
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self):
        while True:
            piece = os.read(self._stream.fileno(), 65536)
            with self._changed:
                self._data += piece
                self._ended = not piece
                self._changed.notify_all()
            if not piece:
                return

    def bytes(self):
        with self._changed:
            return bytes(self._data)

    def text(self):
        return self.bytes().decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, pattern, timeout=TIMEOUT, start=0):
        """Waits until the regular expression is found in the output from byte `start`, and gives the match."""
        compiled = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        deadline = time.monotonic() + timeout * SCALE
        with self._changed:
            while True:
                match = compiled.search(self._data, start)
                if match:
                    # A copy: a match into the growing buffer would keep it from growing.
                    return re.compile(compiled.pattern).search(bytes(self._data), start)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    reason = "output ended" if self._ended else f"nothing for {timeout} s"
                    raise AssertionError(f"{reason} while waiting for {pattern!r}; output so far:\n" +
                                         self._data[-4000:].decode(errors="replace"))
                self._changed.wait(left)

    def wait_end(self, timeout=TIMEOUT):
        if self._thread:
            self._thread.join(timeout * SCALE)

    def close(self):
        self.wait_end(5)
        self._stream.close()


class QmpError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('class')}: {error.get('desc')}")
        self.error = error


class Qmp:
    """A QMP client on a unix socket: commands in order, events kept until asked for."""

    def __init__(self, path, timeout=TIMEOUT):
        deadline = time.monotonic() + timeout * SCALE
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(path)
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self._socket.settimeout(timeout * SCALE)
        self._buffer = b""
        self.events = []
        self.greeting = self._receive()
        self.command("qmp_capabilities")

    def _receive(self):
        while b"\n" not in self._buffer:
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionError("QMP connection closed")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def command(self, name, **arguments):
        """Gives the value of "return"; raises QmpError on "error". Underscores in argument names become dashes."""
        return self.request(name, {key.replace("_", "-"): value for key, value in arguments.items()})

    def request(self, name, arguments):
        """As command(), with the arguments as they are."""
        request = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        self._socket.sendall(json.dumps(request).encode() + b"\r\n")
        while True:
            answer = self._receive()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(answer["error"])
            else:
                return answer["return"]

    def wait_event(self, name):
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            answer = self._receive()
            if "event" in answer:
                self.events.append(answer)

    def wait_status(self, status, timeout=TIMEOUT):
        deadline = time.monotonic() + timeout * SCALE
        while True:
            seen = self.command("query-status")["status"]
            if seen == status:
                return
            assert time.monotonic() < deadline, f"status is {seen}, not {status}"
            time.sleep(0.02)

    def close(self):
        self._socket.close()


class FootprintWatch:
    """Looks at a VMM's PSS outside guest RAM, soon after its start and then less often, until it has ended."""

    LIMIT_KIB = 2560
    VCPU_KIB = 32  # each one more: a thread

    def __init__(self, vmm, memory_mib, smp, more_kib):
        processors = int(str(smp).partition(",")[0])
        self.limit_kib = self.LIMIT_KIB + self.VCPU_KIB * (processors - 1) + more_kib
        self.largest_kib = 0
        memory_mib = int(str(memory_mib).partition(",")[0])
        # Guest RAM is in one piece, or in two where the hole for devices divides it (x86_64).
        low_mib = 3072 if architecture() == "x86_64" else memory_mib
        self._ram_kib = 1024 * (memory_mib if memory_mib <= low_mib else min(low_mib, memory_mib - low_mib))
        self._vmm = vmm
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        pause = 0.1
        while not self._stop.wait(pause):
            with contextlib.suppress(OSError):  # it has ended
                self.largest_kib = max(self.largest_kib, self._vmm.memory_kib("Pss", outside=self._ram_kib))
            pause = min(2 * pause, 2)

    def end(self):
        """What is wrong, or None."""
        self._stop.set()
        self._thread.join()
        if self.largest_kib > self.limit_kib:
            return f"{self.largest_kib} KiB of memory beside guest RAM, and {self.limit_kib} are allowed: {self._vmm.arguments}"
        return None


class Vmm:
    """One VMM process. Serial port on stdin and stdout unless `serial` says otherwise; QMP on a socket in `folder`."""

    def __init__(self, folder, *extra, kernel=None, append=None, initrd=None, memory_mib=64, smp=1, machine="microvm", serial="stdio",
                 qmp=True, read_output=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=None, program=None):
        self.folder = folder
        self.qmp_path = os.path.join(folder, "qmp.sock")
        arguments = [program or binary(), "-machine", machine, "-m", str(memory_mib), "-smp", str(smp)]
        if kernel:
            arguments += ["-kernel", kernel]
        if append is not None:
            arguments += ["-append", append]
        if initrd:
            arguments += ["-initrd", initrd]
        if serial:
            arguments += ["-serial", serial]
        if qmp:
            arguments += ["-qmp", f"unix:{self.qmp_path},server,nowait"]
        self.arguments = arguments + list(extra)
        self._qmp = None
        self._errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.arguments, stdin=stdin, stdout=stdout, stderr=self._errors, cwd=folder,
                                        env={**os.environ, **(env or {})}, start_new_session=True)
        self.pid = self.process.pid
        self.output = Output(self.process.stdout) if self.process.stdout else None
        if self.output and read_output:
            self.output.start()

    @property
    def qmp(self):
        if self._qmp is None:
            try:
                self._qmp = Qmp(self.qmp_path)
            except (OSError, ConnectionError) as error:
                raise AssertionError(f"no QMP: {error}; stderr:\n{self.stderr()}") from error
        return self._qmp

    def write(self, data):
        """Bytes for the serial port."""
        os.write(self.process.stdin.fileno(), data)

    def wait_for(self, pattern, timeout=TIMEOUT, start=0):
        try:
            return self.output.wait_for(pattern, timeout, start)
        except AssertionError as error:
            raise AssertionError(f"{error}\nstderr:\n{self.stderr()}") from None

    def wait(self, timeout=TIMEOUT):
        """Exit code of the process (negative: a signal ended it), once all output is here."""
        try:
            code = self.process.wait(timeout * SCALE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s; output:\n{self.output.text()[-2000:] if self.output else ''}\n"
                                 f"stderr:\n{self.stderr()}") from None
        if self.output:
            self.output.wait_end()
        return code

    def bytes(self):
        return self.output.bytes()

    def text(self):
        return self.output.text()

    def values(self):
        """The `key=value` lines of a payload guest, as a dictionary."""
        return dict(line.split("=", 1) for line in self.text().splitlines() if "=" in line)

    def stderr(self):
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode(errors="replace")

    def thread_names(self):
        """The names of its threads, once each has its own: a thread names itself, some time after it is there. It may have ended meanwhile."""
        deadline = time.monotonic() + TIMEOUT * SCALE
        while True:
            names = []
            for task in os.listdir(f"/proc/{self.pid}/task"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{self.pid}/task/{task}/comm") as file:
                    names.append(file.read().strip())
            if names.count("stratovirt") <= 1:
                return names
            assert time.monotonic() < deadline, names
            time.sleep(0.01)

    def memory_kib(self, key, outside=None):
        """A sum over /proc/PID/smaps (Pss, Private_Dirty, ...); without guest RAM: a run of adjacent mappings of `outside` KiB or more, which may be of a
        file, and of nothing where it was discarded."""
        total = run = run_size = 0
        end = permissions = None
        with open(f"/proc/{self.pid}/smaps") as smaps:
            for line in smaps:
                if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line):
                    if found[1] != end or found[3] != permissions:
                        total += 0 if outside and run_size >= outside else run
                        run = run_size = 0
                    run_size += (int(found[2], 16) - int(found[1], 16)) >> 10
                    end, permissions = found[2], found[3]
                elif line.startswith(key + ":"):
                    run += int(line.split()[1])
        return total + (0 if outside and run_size >= outside else run)

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self._qmp:
            self._qmp.close()
        if self.process.stdin:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        if self.output:
            self.output.close()
        self._errors.close()


@functools.cache
def gic_version():
    """"3" or "2": the interrupt controller that an Arm machine has on this host, as a guest is told."""
    with tempfile.TemporaryDirectory(prefix="strato-") as folder:
        vmm = Vmm(folder, kernel=guest("report"), qmp=False)
        try:
            assert vmm.wait() == 0, vmm.stderr()
            return vmm.values()["gic"]
        finally:
            vmm.close()


def need_processors(count):
    """Skips where the host's interrupt controller cannot serve as many."""
    if count > 8 and architecture() == "aarch64" and gic_version() == "2":
        pytest.skip("a GICv2 serves 8 processors")


@pytest.fixture
def start_vmm():
    """Starts VMMs as Vmm(...) does; all of them are gone, with their folders, when the test ends. One of the release build that took more memory
    than a VMM may fails the test; `more_kib` is what the test lets it buffer beyond that."""
    running = []
    folders = []
    watches = []

    def start(*extra, more_kib=0, **options):
        folder = tempfile.mkdtemp(prefix="strato-")  # short: a unix socket's path has 107 bytes
        folders.append(folder)
        vmm = Vmm(folder, *extra, **options)
        running.append(vmm)
        if "release" in vmm.arguments[0]:
            watches.append(FootprintWatch(vmm, options.get("memory_mib", 64), options.get("smp", 1), more_kib))
        return vmm

    yield start
    wrong = [said for watch in watches if (said := watch.end())]
    for vmm in running:
        vmm.close()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    assert not wrong, "\n".join(wrong)


def run_to_end(start_vmm, *extra, **options):
    """A guest that ends by itself: starts it, expects exit code 0, gives the Vmm."""
    vmm = start_vmm(*extra, **options)
    code = vmm.wait()
    assert code == 0, f"exit code {code}; output:\n{vmm.text()[-2000:]}\nstderr:\n{vmm.stderr()}"
    return vmm
