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

TOOL = pathlib.Path(__file__).resolve().parents[1] / "packages"

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


def run(argv, given=b"", **options):
    """Runs a program quietly; its output is shown only when it fails."""
    argv = [str(word) for word in argv]
    done = subprocess.run(argv, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise Failure(f"`{' '.join(argv)}` ended with code {done.returncode}\n{output}")
    return done.stdout


def find_program(name):
    """Full path of a program, also in the sbin folders that a user's PATH may lack."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")


def names_in(*groups):
    """The packages of groups of tools/packages."""
    return run([TOOL, "--list", *groups]).decode().split()


def ensure_programs(group, *programs):
    """Installs a group of tools/packages when one of its programs is missing."""
    if all(find_program(program) for program in programs):
        return
    if subprocess.run([TOOL, group], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
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

    def download_with_needs(self, names, folder):
        """All the packages that these need on a system that has none yet."""
        folder = pathlib.Path(folder)
        (folder / "partial").mkdir(parents=True)
        run(["apt-get", "-qq", "-y", *self.options, f"-oDir::Cache::archives={folder}", "--no-install-recommends", "--download-only",
             "install", *names])
        return sorted(folder.glob("*.deb"))


def sources(*fields):
    """These fields of the main components of Debian that this system's apt knows, as rows."""
    wanted = "\t".join(f"$({field})" for field in ("ORIGIN", "COMPONENT", *fields))
    rows = [line.split("\t") for line in run(["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"]).decode().splitlines()]
    return list(dict.fromkeys(tuple(row[2:]) for row in rows if row[:2] == ["Debian", "main"]))


def private_apt(architecture, suite=None):
    """An apt that knows one suite, or all that this system uses, of the mirrors it uses, without touching /etc/apt."""
    rows = sources("REPO_URI", "RELEASE")
    if not rows and os.geteuid() == 0:
        say("updating apt's package lists")
        Apt().update()
        rows = sources("REPO_URI", "RELEASE")
    if suite:
        rows = [(uri, suite) for uri, release in rows if release == suite.split("-")[0]]
    if not rows:
        raise Failure(f"no Debian mirror found in apt's sources{f' for {suite}' if suite else ''}; is the package list up to date?")
    folder = cache_dir() / "apt" / "-".join(filter(None, (architecture, suite)))
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (folder / "sources.list").write_text("".join(f"deb [signed-by={keys}] {uri} {release} main\n" for uri, release in rows))
    return Apt([f"-oAPT::Architecture={architecture}", f"-oAPT::Architectures={architecture}", "-oAPT::Sandbox::User=root",
                f"-oDir::State={folder}", f"-oDir::State::status={folder}/status", f"-oDir::State::Lists={folder}/lists",
                f"-oDir::Cache={folder}/cache", f"-oDir::Etc::SourceList={folder}/sources.list", "-oDir::Etc::SourceParts=/dev/null"])


def apts(arch, extra_suite=None):
    """Where packages of an architecture are looked for, one after the other: the lists at hand, fresh ones, and `extra_suite`."""
    if arch.is_hosts:
        yield Apt()
        if os.geteuid() == 0:
            say("updating apt's package lists")
            yield updated(Apt())
    else:
        say(f"reading the package lists of {arch.debian}")
        yield updated(private_apt(arch.debian))
    if extra_suite:
        say(f"reading the package list of {extra_suite}")
        yield updated(private_apt(arch.debian, extra_suite))


def updated(apt):
    apt.update()
    return apt


def find_newest(arch, prefix, pattern, extra_suite=None):
    """(apt, name, version) of the newest package of the first place that has one."""
    for apt in apts(arch, extra_suite):
        if found := apt.newest(prefix, pattern):
            return (apt, *found)
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
