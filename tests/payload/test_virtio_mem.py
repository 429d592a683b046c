"""virtio_mem: memory that comes reads zero, what is there stays, and what goes is the host's again, whatever a driver or another did before."""
import re
import time

import pytest
from vmm import SCALE, TIMEOUT, QmpError, device_line, forms, guest, machines, run_to_end

MIB = 1 << 20
BLOCK = 2 * MIB
RAM = "64,maxmem=1G"
SIZE = 256 * MIB


def device(requested=16, kind="ram", more="", backend=""):
    """The options of a device of 128 blocks."""
    return ("-object", f"memory-backend-{kind},id=mem0,size={SIZE // MIB}M{backend}",
            "-device", f"virtio-mem-device,id=vmem0,memdev=mem0,requested-size={requested * BLOCK}{more}")


OK, NEEDS_RESET = 0xf, 0x4f
# What a hostile driver does (guests/virtio_mem.cc) -> what the VMM says of it, the status that the driver sees then, and a value: answers are
# 0 done, 1 not so much, 2 busy, 3 wrong.
CASES = {
    "no_blocks": ("0 blocks at 0x100000000 are not usable ones", OK, 0x333),
    "overflowing": ("65535 blocks at 0xffffffffffe00000 are not usable ones", OK, 0x333),
    "unaligned": ("are not usable ones", OK, 0x333),
    "outside": ("1 blocks at 0x110000000 are not usable ones", OK, 0x333),
    "twice": ("of 2 blocks to plug some are plugged", OK, 0x0333),
    "never_plugged": ("of 3 blocks to unplug some are not plugged", OK, 0x33),
    "too_much": (None, OK, 0x101),
    "unknown_request": ("a request of type 77", OK, 3),
    "short_request": ("a request of 23 bytes, with room for an answer of 10", OK, 0),
    "no_room": ("a request of 24 bytes, with room for an answer of 9", OK, 0),
    "request_in_unplugged": ("bad address", NEEDS_RESET, 0),
    "answer_in_unplugged": ("bad address", NEEDS_RESET, 0),
    "ring_in_unplugged": ("bad address", 0xb, 0),
    "ring_in_block": (None, None, 0),  # the ring may be looked at before it is gone, or after
    "touches_unplugged": (None, OK, 0x11),
    "storm": (None, OK, 100),
    "resets": (None, None, 0),  # some of its requests are served before
    "config_writes": ("write to read-only configuration", OK, 1),
    "without_promise": ("features that are not offered", 3, 0),
}


def check(vmm, blocks=16):
    text = vmm.text()
    assert f"plugged={blocks} zero={blocks} kept={blocks}\n" in text
    assert f"again={blocks} zero=3 kept={blocks - 3}\n" in text
    assert "answer_in_block=1\n" in text
    assert "left=0\n" in text
    assert "mem=end" in text


def poll(condition, what):
    deadline = time.monotonic() + TIMEOUT * SCALE
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def told(vmm):
    [device_told] = vmm.qmp.command("query-memory-devices")
    assert device_told["type"] == "virtio-mem"
    return device_told["data"]


def request(vmm, blocks):
    vmm.qmp.command("qom-set", path="/machine/peripheral/vmem0", property="requested-size", value=blocks * BLOCK)


def save(vmm, folder):
    vmm.qmp.command("migrate", uri=f"file:{folder}")
    poll(lambda: vmm.qmp.command("query-migrate")["status"] in ("completed", "failed"), lambda: vmm.qmp.command("query-migrate"))
    assert vmm.qmp.command("query-migrate")["status"] == "completed"
    vmm.qmp.command("quit")
    assert vmm.wait() == 0, vmm.stderr()


@pytest.mark.parametrize("kernel", forms("virtio_mem"))
@pytest.mark.parametrize("machine", machines())
def test_memory_that_is_plugged_reads_zero_and_its_neighbours_stay(start_vmm, kernel, machine):
    vmm = run_to_end(start_vmm, *device(), kernel=guest(kernel), machine=machine, memory_mib=RAM)
    check(vmm)
    assert re.fullmatch(device_line(24), vmm.values()["device"])
    assert vmm.stderr() == ""


@pytest.mark.parametrize("backend", ["", ",mem-prealloc=on", ",x-huge-pages=off", ",dump-guest-core=off", ",host-nodes=0,policy=bind"])
@pytest.mark.parametrize("kind", ["ram", "memfd"])
def test_it_is_in_any_memory_object(start_vmm, kind, backend):
    check(run_to_end(start_vmm, *device(kind=kind, backend=backend), kernel=guest("virtio_mem"), memory_mib=RAM))


def test_it_is_in_a_file_whose_old_content_nobody_sees_and_which_what_goes_leaves(start_vmm, tmp_path):
    file = tmp_path / "memory"
    file.write_bytes(b"\x55" * SIZE)
    check(run_to_end(start_vmm, *device(kind="file", backend=f",mem-path={file}"), kernel=guest("virtio_mem"), memory_mib=RAM))
    with open(file, "rb") as content:
        assert content.read(16 * BLOCK) == bytes(16 * BLOCK), "what was plugged"
        assert content.read(BLOCK) == b"\x55" * BLOCK, "what never was"


@pytest.mark.parametrize("options", [",packed=on", ",memaddr=0x240000000", ",block-size=2M,node=0,unplugged-inaccessible=on", ",iothread=t"])
def test_the_options_of_the_device(start_vmm, options):
    thread = ("-object", "iothread,id=t") if "iothread" in options else ()
    vmm = run_to_end(start_vmm, *thread, *device(more=options), kernel=guest("virtio_mem"), memory_mib=RAM)
    check(vmm)


@pytest.mark.parametrize("kind", ["ram", "memfd"])
def test_the_host_gives_and_takes_memory(start_vmm, kind):
    vmm = start_vmm(*device(0, kind), kernel=guest("virtio_mem"), append="follow=3", memory_mib=RAM)
    vmm.wait_for("follows\n")
    assert told(vmm) | {"memaddr": 0} == {"id": "vmem0", "memaddr": 0, "requested-size": 0, "size": 0, "max-size": SIZE, "block-size": BLOCK, "node": 0,
                                          "memdev": "/objects/mem0"}
    before = vmm.memory_kib("Rss")
    request(vmm, 100)
    vmm.wait_for("size=100 zero=100 kept=0\n", timeout=5 * TIMEOUT)
    assert told(vmm)["size"] == 100 * BLOCK and told(vmm)["requested-size"] == 100 * BLOCK
    full = vmm.memory_kib("Rss")
    assert full - before >= 100 * BLOCK // 1024
    vmm.qmp.command("set-viomem", id="vmem0", **{"requested-size": "20M"})
    vmm.wait_for("size=10 zero=0 kept=100\n")
    assert vmm.qmp.command("get-viomem", id="vmem0") == {"node": 0, "size": SIZE, "block-size": BLOCK, "requested-size": 10 * BLOCK,
                                                         "plugged-size": 10 * BLOCK}
    poll(lambda: full - vmm.memory_kib("Rss") >= 89 * BLOCK // 1024, lambda: f"{before} -> {full} -> {vmm.memory_kib('Rss')} KiB")
    # Not more than one event in a second, and the last word in the end.
    while (event := vmm.qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE"))["data"]["size"] != 10 * BLOCK:
        pass
    assert event["data"] == {"id": "vmem0", "size": 10 * BLOCK, "qom-path": "/machine/peripheral/vmem0"}
    request(vmm, 11)
    assert vmm.wait() == 0, vmm.stderr()
    assert "size=11 zero=1 kept=10\n" in vmm.text() and "interrupts=some\n" in vmm.text()


@pytest.mark.parametrize("packed, case", [(packed, case) for packed in ("off", "on") for case in CASES])
def test_a_hostile_driver_harms_nobody_and_the_device_recovers(start_vmm, packed, case):
    said, status, value = CASES[case]
    vmm = start_vmm(*device(more=f",packed={packed}"), kernel=guest("virtio_mem"), append=f"bad={case}", memory_mib=RAM)
    assert vmm.wait() == 0, vmm.stderr()
    seen = re.search(rf"bad={case} (0x[0-9a-f]+) (0x[0-9a-f]+)\n", vmm.text())
    assert seen and int(seen[2], 16) == value, vmm.text()
    assert status in (None, int(seen[1], 16)), vmm.text()
    check(vmm)
    errors = vmm.stderr()
    if status is not None:
        assert errors == "" if said is None else said in errors
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


@pytest.mark.parametrize("mapped", ["true", "false"])
@pytest.mark.parametrize("kind", ["ram", "memfd", "file"])
def test_a_machine_is_saved_with_what_is_plugged_and_goes_on_with_it(start_vmm, tmp_path, kind, mapped):
    backend = f",mem-path={tmp_path}/memory" if kind == "file" else ""
    first = start_vmm(*device(0, kind, backend=backend), kernel=guest("virtio_mem"), append="follow=3", memory_mib=RAM)
    first.wait_for("follows\n")
    request(first, 70)  # in two windows
    first.wait_for("size=70 zero=70 kept=0\n", timeout=5 * TIMEOUT)
    request(first, 66)
    first.wait_for("size=66 zero=0 kept=70\n")
    first.qmp.command("stop")
    request(first, 30)  # it has not seen that
    save(first, tmp_path / "saved")
    assert (tmp_path / "saved/memory").stat().st_blocks * 512 < 64 * MIB + 68 * BLOCK

    second = start_vmm("-incoming", f"file:{tmp_path}/saved,mapped={mapped}", *device(0, kind, backend=backend), "-S", kernel=guest("virtio_mem"),
                       memory_mib=RAM)
    assert (told(second)["size"], told(second)["requested-size"]) == (66 * BLOCK, 30 * BLOCK)
    second.qmp.command("cont")
    assert second.wait() == 0, second.stderr()
    assert "size=30 zero=0 kept=66\n" in second.text() and "mem=end" in second.text()


def test_what_is_saved_is_restored_into_the_same_device_only(start_vmm, tmp_path):
    first = start_vmm(*device(), "-S", kernel=guest("virtio_mem"), memory_mib=RAM)
    save(first, tmp_path / "saved")
    other = start_vmm("-incoming", f"file:{tmp_path}/saved", *device(more=",block-size=4M"), kernel=guest("virtio_mem"), memory_mib=RAM)
    assert other.wait() == 1
    assert "-device vmem0: saved with size=268435456 and block-size=2097152" in other.stderr()


def test_stop_and_cont_in_the_middle_lose_no_block(start_vmm):
    vmm = start_vmm(*device(0), kernel=guest("virtio_mem"), append="follow=12", memory_mib=RAM)
    vmm.wait_for("follows\n")
    kept = 0
    for number in range(12):
        blocks = (40 if number % 2 == 0 else 3) + number
        request(vmm, blocks)
        vmm.qmp.command("stop")
        vmm.qmp.command("cont")
        vmm.wait_for(f"size={blocks} zero={max(0, blocks - kept)} kept={kept}\n", timeout=5 * TIMEOUT)
        kept = blocks
    assert vmm.wait() == 0, vmm.stderr()


def test_a_guest_that_restarts_finds_nothing_plugged(start_vmm):
    vmm = start_vmm(*device(), "-action", "reboot=reset", kernel=guest("virtio_mem"), append="end=reset follow=1", memory_mib=RAM)
    vmm.wait_for(r"(?s)(size=16 zero=16 kept=0\r?\n.*){3}")  # it leaves them plugged
    assert vmm.text().count("had=0\n") >= 3 and not re.search(r"had=[1-9]", vmm.text())


def test_a_request_that_cannot_be_is_refused(start_vmm):
    vmm = start_vmm(*device(), "-S", kernel=guest("virtio_mem"), memory_mib=RAM)
    for value, message in ((SIZE + BLOCK, "270532608 bytes: the device has 268435456 at most"), (BLOCK + 1, "must be a multiple of its blocks of 2097152"),
                           (-1, "must be a number of bytes")):
        with pytest.raises(QmpError, match=message):
            vmm.qmp.command("qom-set", path="/machine/peripheral/vmem0", property="requested-size", value=value)
    with pytest.raises(QmpError, match="DeviceNotFound"):
        vmm.qmp.command("set-viomem", id="mem0", **{"requested-size": "2M"})
    assert told(vmm)["requested-size"] == 16 * BLOCK


def test_without_a_device_there_is_none(start_vmm):
    vmm = start_vmm("-S", kernel=guest("virtio_mem"))
    assert vmm.qmp.command("query-memory-devices") == []


def test_two_devices_lie_apart(start_vmm):
    second = ("-object", "memory-backend-ram,id=mem1,size=256M", "-device", "virtio-mem-device,id=vmem1,memdev=mem1")
    vmm = run_to_end(start_vmm, *device(), *second, kernel=guest("virtio_mem"), memory_mib=RAM)
    check(vmm)
