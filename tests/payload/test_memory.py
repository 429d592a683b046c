"""Where guest RAM is: in memory of the process, in a memfd, in a file; and what is said when it cannot be there."""
import os

import pytest
from vmm import guest, run_to_end

MIB = 1 << 20
OBJECT = "id=mem,size=64M"
BALLOON = ("-device", "virtio-balloon-device,id=balloon0")


def check(start_vmm, *options, machine="microvm"):
    """A guest that gives memory up and sees that it is zero works on any."""
    vmm = run_to_end(start_vmm, *options, *BALLOON, kernel=guest("virtio_balloon"), machine=machine)
    assert "inflated=1536 zero=1536 kept=512\n" in vmm.text() and "deflated=2048\n" in vmm.text()
    assert vmm.stderr() == ""
    return vmm


@pytest.mark.parametrize("options", ["", ",mem-prealloc=on", ",prealloc=on,prealloc-threads=3", ",dump-guest-core=off", ",x-huge-pages=off"])
@pytest.mark.parametrize("kind", ["ram", "memfd"])
def test_a_memory_object_is_guest_ram(start_vmm, kind, options):
    check(start_vmm, "-object", f"memory-backend-{kind},{OBJECT}{options}", machine="microvm,memory-backend=mem")


@pytest.mark.parametrize("share", ["on", "off"])
def test_guest_ram_is_in_a_file(start_vmm, tmp_path, share):
    file = tmp_path / "ram"
    check(start_vmm, "-object", f"memory-backend-file,{OBJECT},mem-path={file},share={share}", machine="microvm,memory-backend=mem")
    assert file.stat().st_size == 64 * MIB
    written = any(file.read_bytes())
    assert written == (share == "on")


def test_a_private_file_is_what_a_guest_begins_with_and_stays_as_it_was(start_vmm, tmp_path):
    file = tmp_path / "ram"
    file.write_bytes(b"\x55" * (64 * MIB))
    check(start_vmm, "-object", f"memory-backend-file,{OBJECT},mem-path={file},share=off", machine="microvm,memory-backend=mem")
    assert file.read_bytes() == b"\x55" * (64 * MIB)


def test_a_directory_gets_a_file_that_is_gone_with_the_vm(start_vmm, tmp_path):
    vmm = start_vmm("-S", "-mem-path", str(tmp_path), kernel=guest("hello"))
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"
    assert os.listdir(tmp_path) == []
    with open(f"/proc/{vmm.pid}/maps") as maps:
        assert f"{tmp_path}/stratovirt_backmem_" in maps.read()
    check(start_vmm, "-mem-path", str(tmp_path))


def test_all_of_it_is_there_from_the_start_when_asked_for(start_vmm):
    vmm = start_vmm("-S", "-mem-prealloc", kernel=guest("hello"), smp=2)
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"
    assert vmm.memory_kib("Rss") >= 64 * 1024
    lazy = start_vmm("-S", kernel=guest("hello"))
    assert lazy.qmp.command("query-status")["status"] == "prelaunch"
    assert lazy.memory_kib("Rss") < 32 * 1024


def test_a_machine_in_a_file_is_saved_and_restored(start_vmm, tmp_path):
    memory = ("-object", f"memory-backend-file,{OBJECT},mem-path={tmp_path}/ram")
    first = start_vmm("-S", *memory, *BALLOON, kernel=guest("virtio_balloon"), machine="microvm,memory-backend=mem")
    first.qmp.command("migrate", uri=f"file:{tmp_path}/saved")
    while first.qmp.command("query-migrate").get("status") not in ("completed", "failed"):
        pass
    first.qmp.command("quit")
    assert first.wait() == 0
    check(start_vmm, "-incoming", f"file:{tmp_path}/saved", *memory, machine="microvm,memory-backend=mem")


def test_memory_of_a_node_of_the_host(start_vmm):
    check(start_vmm, "-object", f"memory-backend-ram,{OBJECT},host-nodes=0,policy=bind,mem-prealloc=on", machine="microvm,memory-backend=mem")


@pytest.mark.parametrize("options, machine, message", [
    ((), "microvm,memory-backend=mem", "-machine memory-backend=mem: no -object memory-backend-* has id=mem"),
    (("-object", "memory-backend-ram,id=mem,size=32M"), "microvm,memory-backend=mem", "-object mem: size=32M: must be that of -m: 64M"),
    (("-object", f"memory-backend-ram,{OBJECT}", "-mem-path", "/tmp"), "microvm,memory-backend=mem", "exclude each other"),
    (("-object", f"memory-backend-ram,{OBJECT}"), "microvm,memory-backend=mem,mem-share=on", "exclude each other"),
    (("-object", f"memory-backend-ram,{OBJECT},share=on"), "microvm", "share=on: memory that others can map is a memory-backend-memfd"),
    (("-object", f"memory-backend-file,{OBJECT}"), "microvm", "needs mem-path="),
    (("-object", f"memory-backend-ram,{OBJECT},policy=bind"), "microvm", "policy= needs host-nodes="),
    (("-object", f"memory-backend-ram,{OBJECT},host-nodes=2-1,policy=bind"), "microvm", "host-nodes=2-1: must be numbers below 128"),
    (("-object", f"memory-backend-ram,{OBJECT},host-nodes=127,policy=bind"), "microvm,memory-backend=mem",
     "-object mem: memory region 'ram0': the host has not all of these memory nodes"),
    (("-mem-path", "/nonexistent/ram"), "microvm", "-mem-path /nonexistent/ram: open: No such file"),
    (("-mem-path", "{small}"), "microvm", "the file has 1M where 64M are wanted: make it as large, or empty"),
])
def test_memory_that_cannot_be_is_refused_by_name(start_vmm, tmp_path, options, machine, message):
    small = tmp_path / "small"
    small.write_bytes(bytes(MIB))
    vmm = start_vmm(*(option.replace("{small}", str(small)) for option in options), kernel=guest("hello"), machine=machine)
    assert vmm.wait() == 1
    assert message in vmm.stderr()
