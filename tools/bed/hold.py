"""Whose a bed's folder is: a lock on its file `keeper`, which ends with the process that took it."""

import contextlib
import fcntl
import os


@contextlib.contextmanager
def held(folder):
    """While this lasts, and this process lives, the bed in the folder is ours."""
    with open(os.path.join(folder, "keeper"), "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def keeper_pid(folder):
    """The process that keeps the bed of a folder, or None."""
    path = os.path.join(folder, "keeper")
    try:
        with open(path) as file:
            return int(file.read()) if is_locked(path) else None
    except FileNotFoundError:
        return None


def is_locked(path):
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
