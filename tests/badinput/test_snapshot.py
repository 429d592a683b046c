"""A saved machine that is damaged, or is not the one of the command line, is refused by name and harms nobody."""
import os
import random
import shutil
import struct
import subprocess
import time

import pytest
from refusal import refused
from vmm import TIMEOUT, Vmm, guest, only_on

X86 = only_on("x86_64", "the timer of a PC")
MEMORY_MIB = 32
ARGUMENTS = ["-m", str(MEMORY_MIB), "-smp", "2", "-kernel", guest("timer"), "-serial", "file,path=serial", "-qmp",
             "unix:q.sock,server,nowait", "-boot-timeline", "timeline"]
REPAIRED_DAMAGES = 40


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    vmm = Vmm(str(folder), kernel=guest("timer"), append="period-ms=20", memory_mib=MEMORY_MIB, smp=2)
    try:
        vmm.wait_for("tick=3\n")
        vmm.qmp.command("stop")
        vmm.qmp.command("migrate", uri=f"file:{folder}/machine")
        assert vmm.qmp.command("query-migrate")["status"] == "completed"
        vmm.qmp.command("quit")
        assert vmm.wait() == 0
    finally:
        vmm.close()
    return folder / "machine"


@pytest.fixture
def machine(saved, tmp_path):
    """A copy to damage; its memory stays sparse."""
    subprocess.run(["cp", "-r", "--sparse=always", saved, tmp_path / "machine"], check=True)
    return tmp_path / "machine"


def crc32c(data):
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def incoming(machine, *more):
    return [*ARGUMENTS, "-incoming", f"file:{machine}", *more]


def test_there_are_two_files_that_nobody_else_may_read(saved):
    assert sorted(os.listdir(saved)) == ["memory", "state"]
    assert {os.stat(saved / name).st_mode & 0o777 for name in ("memory", "state")} == {0o600}
    assert os.stat(saved / "memory").st_size == MEMORY_MIB << 20
    assert os.stat(saved / "memory").st_blocks * 512 < 8 << 20, "the zero pages take room"


@pytest.mark.parametrize("part", [0, 1, 7, 8, 20, 0.1, 0.3, 0.5, 0.7, 0.9, -5, -4, -1])
def test_a_truncated_state(machine, tmp_path, part):
    state = (machine / "state").read_bytes()
    (machine / "state").write_bytes(state[:part if isinstance(part, int) else int(part * len(state))])
    refused(tmp_path, incoming(machine), f"{machine}/state")


@pytest.mark.parametrize("where", [0, 5, 8, 10, 12, 14, 0.05, 0.25, 0.5, 0.75, 0.95, -4, -1])
def test_a_flipped_bit_in_the_state(machine, tmp_path, where):
    state = bytearray((machine / "state").read_bytes())
    state[where if isinstance(where, int) else int(where * len(state))] ^= 0x10
    (machine / "state").write_bytes(state)
    refused(tmp_path, incoming(machine), f"{machine}/state")


@pytest.mark.parametrize("content", [b"", b"{}", b"STRATOST", os.urandom(4096), bytes(4096)], ids=["nothing", "json", "magic", "noise", "zeros"])
def test_a_state_that_is_something_else(machine, tmp_path, content):
    (machine / "state").write_bytes(content)
    refused(tmp_path, incoming(machine), f"{machine}/state")


def test_bytes_after_the_state(machine, tmp_path):
    with open(machine / "state", "ab") as state:
        state.write(b"more")
    refused(tmp_path, incoming(machine), f"{machine}/state")


def test_a_state_of_a_terabyte_is_not_read(machine, tmp_path):
    os.truncate(machine / "state", 1 << 40)
    refused(tmp_path, incoming(machine), f"{machine}/state")


def test_a_memory_file_that_is_short(machine, tmp_path):
    os.truncate(machine / "memory", (MEMORY_MIB << 20) - 1)
    refused(tmp_path, incoming(machine), f"{machine}/memory")


@pytest.mark.parametrize("name", ["state", "memory"])
@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_a_file_of_it_that_is_none(machine, tmp_path, name, kind):
    (machine / name).unlink()
    if kind == "folder":
        (machine / name).mkdir()
    elif kind == "fifo":
        os.mkfifo(machine / name)
    refused(tmp_path, incoming(machine), f"{machine}/{name}")


@pytest.mark.parametrize("path", ["/nowhere", "/dev/null", "/etc/hostname"])
def test_a_place_that_holds_no_machine(tmp_path, path):
    refused(tmp_path, incoming(path), path)


@pytest.mark.parametrize("change, texts", [
    ({"-m": "64"}, ["-m", "33554432", "67108864"]),
    ({"-smp": "1"}, ["-smp cpus 2", "1"]),
    ({"-smp": "2,threads=2"}, ["-smp"]),
    ({"-serial": "none"}, ["serial0"]),
    pytest.param({"-machine": "microvm,acpi=off"}, ["pit"], marks=X86),
    pytest.param({"-machine": "microvm,pit=on"}, ["pit"], marks=X86),
])
def test_another_machine_than_the_one_that_was_saved(machine, tmp_path, change, texts):
    words = dict(zip(ARGUMENTS[::2], ARGUMENTS[1::2])) | change
    refused(tmp_path, [word for pair in words.items() for word in pair] + ["-incoming", f"file:{machine}"], *texts)


def damages(state):
    """Places to change, spread over the whole state, the same each time."""
    chosen = random.Random(1)
    for _ in range(REPAIRED_DAMAGES):
        yield chosen.randrange(8, len(state) - 4), chosen.choice([0x01, 0x80, 0xff])


def test_a_state_that_lies_ends_in_order(machine, tmp_path, start_vmm):
    """With a right checksum: whatever it says, it is refused with exit code 1 or taken; nothing crashes."""
    state = (machine / "state").read_bytes()
    outcomes = []
    for number, (where, mask) in enumerate(damages(state)):
        bad = bytearray(state)
        bad[where] ^= mask
        bad[-4:] = struct.pack("<I", crc32c(bad[:-4]))
        (machine / "state").write_bytes(bad)
        vmm = start_vmm("-S", "-incoming", f"file:{machine}", kernel=guest("timer"), memory_mib=MEMORY_MIB, smp=2)
        while vmm.process.poll() is None and not os.path.exists(vmm.qmp_path):
            time.sleep(0.005)
        if vmm.process.poll() is None:
            vmm.qmp.command("quit")
        code = vmm.wait()
        outcomes.append(code)
        assert code in (0, 1), f"byte {where} ^ {mask:#x}: exit code {code}\n{vmm.stderr()}"
        assert (code == 1) == bool(vmm.stderr()), f"byte {where} ^ {mask:#x}"
        vmm.close()
    assert 1 in outcomes, "nothing was refused: the damages are too mild"


@pytest.mark.parametrize("mapped", ["true", "false"])
def test_the_machine_as_it_was_saved_goes_on(machine, start_vmm, mapped):
    vmm = start_vmm("-incoming", f"file:{machine},mapped={mapped}", kernel=guest("timer"), memory_mib=MEMORY_MIB, smp=2)
    vmm.wait_for(r"tick=8\n")
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


def test_a_machine_can_be_saved_over_itself_and_stays_whole(machine, start_vmm):
    vmm = start_vmm("-incoming", f"file:{machine}", kernel=guest("timer"), memory_mib=MEMORY_MIB, smp=2)
    vmm.wait_for(r"tick=8\n")
    vmm.qmp.command("stop")
    vmm.qmp.command("migrate", uri=f"file:{machine}")
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    again = start_vmm("-incoming", f"file:{machine}", kernel=guest("timer"), memory_mib=MEMORY_MIB, smp=2)
    again.wait_for(r"tick=13\n")


def test_a_save_that_fails_leaves_no_file_and_the_guest_running(start_vmm, tmp_path):
    from vmm import QmpError
    vmm = start_vmm(kernel=guest("timer"), append="period-ms=20", memory_mib=MEMORY_MIB)
    vmm.wait_for("tick=3\n")
    (tmp_path / "file").write_text("x")
    for target in ("/nowhere/at/all", tmp_path / "file", "/dev/null"):
        with pytest.raises(QmpError) as failed:
            vmm.qmp.command("migrate", uri=f"file:{target}")
        assert str(target) in str(failed.value)
    assert vmm.qmp.command("query-migrate")["status"] == "failed"
    start = len(vmm.bytes())
    vmm.wait_for(r"tick=\d+\n", start=start)
    assert vmm.qmp.command("query-status")["status"] == "running"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system has to be mounted")
def test_a_disk_that_is_full_leaves_no_file(tmp_path, start_vmm):
    from vmm import QmpError
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", full], check=True)
    try:
        vmm = start_vmm(kernel=guest("timer"), append="period-ms=20", memory_mib=MEMORY_MIB)
        vmm.wait_for("tick=3\n")
        with pytest.raises(QmpError) as failed:
            vmm.qmp.command("migrate", uri=f"file:{full}/machine")
        assert f"{full}/machine" in str(failed.value)
        left = [name for _, _, files in os.walk(full) for name in files]
        assert left == []
        vmm.qmp.command("quit")
        assert vmm.wait(TIMEOUT) == 0
        shutil.rmtree(full / "machine", ignore_errors=True)
    finally:
        subprocess.run(["umount", full], check=True)
