"""Which QEMU a bed is started with."""
import json
import pathlib
import stat
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools/bed"))
import arch  # noqa: E402
import emulator  # noqa: E402
from packages import Failure  # noqa: E402

X86_64 = arch.ARCHES["x86_64"]


def fake_qemu(path, version):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version} (Debian 1:{version})'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, where the system has QEMU 7.2."""
    monkeypatch.setattr(emulator, "cache_dir", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = fake_qemu(tmp_path / "bin/qemu-system-x86_64", "7.2.19")
    monkeypatch.setattr(emulator, "ensure_programs", lambda *_: None)
    monkeypatch.setattr(emulator, "find_program", lambda _: str(own))
    return tmp_path


def no_network(*_):
    raise Failure("no network here")


def test_a_system_with_a_new_one_uses_that(cache, monkeypatch):
    fake_qemu(cache / "bin/qemu-system-x86_64", "10.0.2")
    monkeypatch.setattr(emulator, "private_apt", no_network)
    assert emulator.of(X86_64) == [str(cache / "bin/qemu-system-x86_64")]


def test_without_the_suite_it_is_the_systems_own_and_said_once(cache, monkeypatch, capsys):
    monkeypatch.setattr(emulator, "private_apt", no_network)
    for _ in range(2):
        assert emulator.of(X86_64) == [str(cache / "bin/qemu-system-x86_64")]
    assert capsys.readouterr().err.count("no network here") == 1


def test_the_backport_is_started_from_the_cache_with_its_own_data(cache, monkeypatch):
    monkeypatch.setattr(emulator, "private_apt", no_network)  # what is in the cache is not fetched again
    program = fake_qemu(cache / "emulators/q_1/usr/bin/qemu-system-x86_64", "10.0.2")
    for data in ("d_1/usr/share/qemu", "s_1/usr/share/seabios"):
        (cache / "emulators" / data).mkdir(parents=True)
    (cache / "emulators/x86_64.json").write_text(json.dumps(["q_1", "d_1", "s_1"]))
    folder = cache / "emulators"
    assert emulator.of(X86_64) == [program, "-L", folder / "d_1/usr/share/qemu", "-L", folder / "s_1/usr/share/seabios"]
