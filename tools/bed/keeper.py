"""Beds that stay up for many commands: one keeper process each, which ends the bed when nobody needs it any more."""

import contextlib
import fcntl
import os
import pathlib
import select
import shutil
import signal
import tempfile
import time

import client
import machine
from hold import held, is_locked, keeper_pid
from packages import Failure, cache_dir

ENDED, HANGS = range(2)
TEMPORARY = "temporary"  # the mark of a folder that nobody named
CHECK_SECONDS = 15  # how often a bed is looked at


def named_folder(name):
    if "/" in name or name.startswith("."):
        raise Failure(f"{name}: not a name for a bed")
    return str(cache_dir() / "beds" / name)


def sweep():
    """Removes temporary folders whose bed was killed before it could tidy up."""
    for folder in pathlib.Path("/var/tmp").glob("strato-bed-*"):
        if (folder / "disk.img").exists() and keeper_pid(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)


def temporary_folder():
    """A folder for a bed that takes it along when it ends."""
    sweep()
    folder = tempfile.mkdtemp(prefix="strato-bed-", dir="/var/tmp")
    open(os.path.join(folder, TEMPORARY), "w").close()
    return folder


def tidy(folder, keep_logs=False):
    """Takes away what a bed leaves behind, but not what somebody may still want to read."""
    if os.path.exists(os.path.join(folder, TEMPORARY)):
        shutil.rmtree(folder)
        return
    kept = ["scratch", "qemu.log", "console.log"] if keep_logs else ["scratch"]
    for entry in pathlib.Path(folder).iterdir():
        if entry.name not in kept:
            entry.unlink(missing_ok=True)


@contextlib.contextmanager
def _start_lock(folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "start.lock"), "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # unlike flock not inherited by the keeper
        yield


def start_unless_up(folder, options):
    with _start_lock(folder):
        if keeper_pid(folder) is None:
            _start(folder, options)


def start(folder, options):
    with _start_lock(folder):
        if keeper_pid(folder) is not None:
            raise Failure(f"{folder}: a bed is up there")
        _start(folder, options)


def _start(folder, options):
    folder = os.path.abspath(folder)
    owner = _open_owner(options.owner)
    machine.prepare(options.kind)
    machine.write_kind(folder, options.kind)
    ready, told = os.pipe()
    if os.fork() == 0:
        try:
            os.close(ready)
            _keep(folder, options, owner, told)
        except BaseException as error:  # the parent tells the user; there is nobody here to see a traceback
            with contextlib.suppress(OSError):
                os.write(told, f"{error!r}".encode())
        finally:
            os._exit(0)
    os.close(told)
    trouble = b"".join(iter(lambda: os.read(ready, 4096), b"")).decode()
    os.close(ready)
    if trouble:
        raise Failure(f"the bed did not start: {trouble}")
    try:
        client.Port(folder, time.monotonic() + machine.BOOT_SECONDS, lambda: keeper_pid(folder) is not None).close()
    except BaseException as error:
        words = machine.last_words(folder)
        stop(folder)
        if isinstance(error, Failure):
            raise Failure(f"{error}\n{words}") from error
        raise


def _open_owner(pid):
    try:
        return os.pidfd_open(pid) if pid else None
    except OSError as error:
        raise Failure(f"--owner {pid}: {error.strerror}") from error


def _keep(folder, options, owner, told):
    os.setsid()
    with held(folder):
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        qemu = machine.start(folder, options.kind, options.memory, options.cpus)
        _let_go_of_the_starter(told)
        ends = [fd for fd in (owner, wake_read) if fd is not None]
        while _watch(folder, qemu, ends, options) == HANGS:
            _write_down_hang(folder, options.kind)
            qemu.kill()
            qemu.wait()
            qemu = machine.start(folder, options.kind, options.memory, options.cpus)
        ended_by_itself = qemu.poll() is not None
        qemu.kill()
        qemu.wait()
        tidy(folder, keep_logs=ended_by_itself)


def _let_go_of_the_starter(told):
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.chdir("/")
    os.close(told)


def _watch(folder, qemu, ends, options):
    """Waits until one of `ends` becomes readable, nobody used the bed for so long, or it hangs or ends after it was up."""
    busy_at = time.monotonic()
    was_up = False
    ends = [*ends, os.pidfd_open(qemu.pid)]
    try:
        while not (ready := select.select(ends, [], [], CHECK_SECONDS)[0]):
            now = time.monotonic()
            if any(is_locked(path) for path in pathlib.Path(folder).glob("port*.lock")):
                busy_at = now
            elif now - busy_at > options.idle:
                return ENDED
            if not _answers(folder, ends, options.patience if was_up else machine.BOOT_SECONDS):
                return HANGS
            was_up = True
        return HANGS if ready == ends[-1:] and was_up else ENDED
    finally:
        os.close(ends[-1])


def _answers(folder, ends, patience):
    """Whether the bed's agent says hello, asked by a process of its own so that we still notice the end meanwhile."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            machine.die_with_parent()
            client.Port(folder, time.monotonic() + patience, lambda: True).close()
            code = 0
        finally:
            os._exit(code)
    probe = os.pidfd_open(pid)
    ended = select.select([*ends, probe], [], [])[0] != [probe]
    if ended:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    os.close(probe)
    return ended or status == 0


def _write_down_hang(folder, kind):
    """What the processors were doing, and the last words of the kernel, for whoever wants to find the reason."""
    with open(cache_dir() / "hangs.log", "a") as log:
        log.write(f"{time.strftime('%F %T')} {folder}, {kind.label()}: started anew\n{machine.last_words(folder)}\n")
        log.write(machine.ask_monitor(folder, machine.MONITOR_COMMANDS[kind.arch.name]))


def stop(folder):
    """Ends the bed and waits until it is gone; no bed there is no error."""
    if not folder:
        raise Failure("--stop: say which bed by --bed or --keep")
    pid = keeper_pid(folder)
    if pid is None:
        if os.path.isdir(folder):
            tidy(folder, keep_logs=True)
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while keeper_pid(folder) == pid:
        if time.monotonic() > deadline:
            raise Failure(f"{folder}: its keeper, process {pid}, does not end")
        time.sleep(0.05)
    return 0
