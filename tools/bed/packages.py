"""Debian packages: programs installed through apt, other packages unpacked into the cache outside the tree."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


class Failure(Exception):
    """Something the caller can act on; the text is all that is shown."""


def say(text):
    print(f"bed: {text}", file=sys.stderr, flush=True)


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = pathlib.Path(base).resolve() / "stratovirt"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def cache_lock(name):
    """Only one process at a time makes the piece called `name`."""
    with open(cache_dir() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(argv, **options):
    """Runs a program quietly; its output is shown only when it fails."""
    argv = [str(word) for word in argv]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise Failure(f"`{' '.join(argv)}` ended with code {done.returncode}\n{output}")
    return done.stdout


def find_program(name):
    """Full path of a program, also in the sbin folders that a user's PATH may lack."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")


def ensure_programs(group, *programs):
    """Installs a group of tools/packages when one of its programs is missing."""
    if all(find_program(program) for program in programs):
        return
    tool = pathlib.Path(__file__).resolve().parents[1] / "packages"
    if subprocess.run([tool, group], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
        raise Failure(f"programs are missing: {' '.join(program for program in programs if not find_program(program))}")


class Apt:
    """One apt configuration: the system's, or one with private lists."""

    def __init__(self, options=()):
        self.options = list(options)

    def update(self):
        run(["apt-get", "-qq", *self.options, "update"])

    def newest(self, prefix, pattern):
        """(name, version) of the newest package that matches `pattern` and can be downloaded, or None."""
        names = run(["apt-cache", *self.options, "pkgnames", prefix]).decode().split()
        matching = [name for name in names if re.fullmatch(pattern, name)]
        # Digits compare as numbers; of two packages of one version the unsigned one, which ships no signature to trip over.
        matching.sort(key=lambda name: ([int(n) for n in re.findall(r"\d+", name)], name.endswith("-unsigned")))
        for name in reversed(matching):
            row = run(["apt-cache", *self.options, "madison", name]).decode().split("|")
            if len(row) > 1:
                return name, row[1].strip()
        return None

    def download(self, name, version, folder):
        run(["apt-get", "-qq", *self.options, "-o", "APT::Sandbox::User=root", "download", f"{name}={version}"], cwd=folder)
        return next(pathlib.Path(folder).glob("*.deb"))


def private_apt(suite):
    """An apt that knows `suite` of the mirror that this system already uses, without touching /etc/apt."""
    listing = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"]).decode().splitlines()
    mirrors = [line.split()[0] for line in listing if line.split()[1:] == [suite.split("-")[0]]]
    if not mirrors:
        raise Failure(f"no Debian mirror found in apt's sources for {suite}")
    folder = cache_dir() / "apt" / suite
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (folder / "sources.list").write_text(f"deb [signed-by={keys}] {mirrors[0]} {suite} main\n")
    return Apt([f"-oDir::State::Lists={folder}/lists", f"-oDir::Cache={folder}/cache",
                f"-oDir::Etc::SourceList={folder}/sources.list", "-oDir::Etc::SourceParts=/dev/null",
                "-oAPT::Sandbox::User=root"])


def find_newest(prefix, pattern, extra_suite=None):
    """(apt, name, version): looked up in the lists at hand, then in fresh ones, then in `extra_suite`."""
    system = Apt()
    found = system.newest(prefix, pattern)
    if found is None and os.geteuid() == 0:
        say("updating apt's package lists")
        system.update()
        found = system.newest(prefix, pattern)
    if found:
        return (system, *found)
    if extra_suite:
        say(f"reading the package list of {extra_suite}")
        private = private_apt(extra_suite)
        private.update()
        found = private.newest(prefix, pattern)
        if found:
            return (private, *found)
    raise Failure(f"apt knows no package {pattern}; is the package list up to date?")


def unpack(apt, name, version, target):
    """Downloads a package and unpacks it as the new folder `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        say(f"downloading {name} {version}")
        package = apt.download(name, version, folder)
        tree = pathlib.Path(folder) / "tree"
        run(["dpkg-deb", "-x", package, tree])
        tree.chmod(0o755)
        tree.rename(target)
