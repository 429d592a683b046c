"""How every refusal looks: exit code 1, the reason on stderr, nothing on stdout, and no file that was not there before."""
import os
import subprocess

from vmm import SCALE, TIMEOUT, binary


def listing(folder):
    found = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            status = os.lstat(path)
            found[os.path.relpath(path, folder)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def refused(folder, arguments, *texts, env=None, prefix=()):
    """Runs the VMM in `folder`, which must be the same afterwards; gives stderr, in which each of `texts` must stand."""
    before = listing(folder)
    done = subprocess.run([*prefix, binary(), *map(str, arguments)], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=TIMEOUT * SCALE, env={**os.environ, **(env or {})})
    errors = done.stderr.decode(errors="replace")
    assert done.returncode == 1, f"exit code {done.returncode}; stderr:\n{errors}"
    assert done.stdout == b""
    for text in texts:
        assert text in errors, errors
    assert errors.startswith("stratovirt: ") and errors.count("\n") == 1 and len(errors) < 6000, errors
    assert listing(folder) == before
    return errors
