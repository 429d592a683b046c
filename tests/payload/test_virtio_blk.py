"""virtio_blk: a driver on virtio-mmio keeps its data on a disk, whatever it or another did to the device before."""
import os
import re
import subprocess
import time

import pytest
from vmm import QmpError, device_line, guest, machines, run_to_end

SECTOR = 512
KIB_OF_A_DEEP_QUEUE = 280  # with 1024 requests in flight, each with its record, its pieces and its transfer
ENGINES = ["aio=io_uring", "aio=native", "aio=threads", "aio=io_uring,direct=off", "aio=threads,direct=off", "aio=off,direct=off"]


def image(tmp_path, mib=16, name="disk.img"):
    path = tmp_path / name
    with open(path, "wb") as file:
        file.truncate(mib << 20)
    return path


def disk(path, drive="", device=""):
    return ("-drive", f"id=drive0,file={path}{',' if drive else ''}{drive}",
            "-device", f"virtio-blk-device,drive=drive0,id=blk0,queue-size=1024{',' if device else ''}{device}")


def check_good(text, discard=True):
    for line in ("write=0", "flush=0", "read=0 0", "zeroes=0", "zeroed=0 0", "kept=0", "blk=end"):
        assert f"{line}\n" in text, (line, text)
    assert ("discard=0\n" in text) == discard


def pattern(count, seed=3):
    return b"".join((((i + 1) * 0x9e3779b97f4a7c15 + seed) % 2**64).to_bytes(8, "little") for i in range(count // 8))


def save(vmm, directory):
    vmm.qmp.command("migrate", uri=f"file:{directory}")
    while vmm.qmp.command("query-migrate").get("status") not in ("completed", "failed"):
        time.sleep(0.02)
    assert vmm.qmp.command("query-migrate")["status"] == "completed"


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_driver_writes_is_in_the_file(start_vmm, tmp_path, engine):
    path = image(tmp_path)
    vmm = run_to_end(start_vmm, *disk(path, f"discard=unmap,{engine}", "serial=abc-123"), kernel=guest("virtio_blk"))
    check_good(vmm.text())
    values = vmm.values()
    assert re.fullmatch(device_line(2), values["device"])
    assert values["capacity"] == str(16 << 11)
    assert values["id"] == "abc-123 0"
    content = path.read_bytes()
    expected = bytearray(pattern(64 * SECTOR))
    expected[:32 * SECTOR] = bytes(32 * SECTOR)
    assert content[8 * SECTOR:72 * SECTOR] == bytes(expected)
    assert content.count(0) == len(content) - sum(byte != 0 for byte in expected)
    assert vmm.stderr() == ""


@pytest.mark.parametrize("machine", [*machines(), "microvm,mem-share=on"])
def test_every_machine_has_disks(start_vmm, tmp_path, machine):
    check_good(run_to_end(start_vmm, *disk(image(tmp_path)), kernel=guest("virtio_blk"), machine=machine).text(), discard=False)


def test_an_iothread_serves_the_disk(start_vmm, tmp_path):
    check_good(run_to_end(start_vmm, "-object", "iothread,id=t", *disk(image(tmp_path), "discard=on", "iothread=t,packed=on,num-queues=4"),
                          kernel=guest("virtio_blk")).text())


# What a hostile driver does (guests/virtio_blk.cc) -> what the VMM says of it, the status that the driver sees then, and a value: the
# request's status, and from bit 8 on the length that was used.
OK, NEEDS_RESET = 0xf, 0x4f
IO_ERROR, UNSUPPORTED, UNTOUCHED = 1, 2, 0xee
ONE = 1 << 8
REFUSED = "blk0: request refused: "
CASES = {
    "overflow": ("sectors past the end of the disk", OK, IO_ERROR),
    "overflow_bytes": ("sectors past the end of the disk", OK, IO_ERROR | ONE),
    "past_end": ("sectors past the end of the disk", OK, IO_ERROR | ONE),
    "odd_length": ("a length that is no multiple of 512", OK, IO_ERROR),
    "discard_overflow": ("sectors past the end of the disk", OK, IO_ERROR | ONE),
    "discard_past_end": ("sectors past the end of the disk", OK, IO_ERROR | ONE),
    "discard_long": ("a segment longer than the limit", OK, IO_ERROR | ONE),
    "discard_flags": ("a segment with unknown flags", OK, UNSUPPORTED | ONE),
    "discard_odd": ("segments of an odd size", OK, IO_ERROR | ONE),
    "zeroes_overflow": ("sectors past the end of the disk", OK, IO_ERROR | ONE),
    "zeroes_flags": ("a segment with unknown flags", OK, UNSUPPORTED | ONE),
    "zeroes_odd": ("segments of an odd size", OK, IO_ERROR | ONE),
    "no_status": ("a request without room for its status", OK, UNTOUCHED),
    "status_readable": ("a request without room for its status", OK, UNTOUCHED),
    "status_joined": (None, OK, 513 << 8),
    "header_split": (None, OK, 513 << 8),
    "header_short": ("a header that is too short", OK, IO_ERROR | ONE),
    "in_readable": ("data in the wrong direction", OK, IO_ERROR | ONE),
    "out_writable": ("data in the wrong direction", OK, IO_ERROR),
    "flush_data": ("data in the wrong direction", OK, IO_ERROR | ONE),
    "id_0": ("no room for the serial number", OK, IO_ERROR | ONE),
    "id_1": ("no room for the serial number", OK, IO_ERROR),
    "id_19": ("no room for the serial number", OK, IO_ERROR),
    "unknown_type": ("an unknown type", OK, UNSUPPORTED),
    "buffer_in_hole": ("", NEEDS_RESET, UNTOUCHED),
    "buffer_on_ring": ("", NEEDS_RESET, UNTOUCHED),
    "flood_reset": (None, 0, 0),
    "flood_stop_queue": (None, OK, 0),
}


@pytest.mark.parametrize("packed", ["off", "on"])
@pytest.mark.parametrize("case", CASES)
def test_a_hostile_driver_harms_nobody_and_the_device_recovers(start_vmm, tmp_path, case, packed):
    said, status, value = CASES[case]
    path = image(tmp_path)
    vmm = start_vmm(*disk(path, "discard=unmap", f"packed={packed}"), kernel=guest("virtio_blk"), append=f"bad={case}")
    assert vmm.wait() == 0, vmm.stderr()
    assert f"bad={case} {status:#x} {value:#x}\n" in vmm.text()
    check_good(vmm.text())
    assert path.stat().st_size == 16 << 20
    assert path.read_bytes()[:8 * SECTOR] == bytes(8 * SECTOR)
    errors = vmm.stderr()
    if said is None:
        assert errors == ""
    else:
        assert "refused: " + said in errors or "blk0: " + said in errors
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


@pytest.mark.parametrize("packed", ["off", "on"])
def test_requests_that_another_processor_rewrites_harm_nobody(start_vmm, tmp_path, packed):
    vmm = start_vmm(*disk(image(tmp_path), "discard=unmap", f"packed={packed}"), kernel=guest("virtio_blk"), append="bad=rewritten", smp=2)
    assert vmm.wait() == 0, vmm.stderr()
    assert f"bad=rewritten {OK:#x} 0x0\n" in vmm.text()
    requests, faults = re.search(r"rewritten=(\d+) faults=(\d+)\n", vmm.text()).groups()
    assert int(requests) >= 10000 and int(faults) > 0
    check_good(vmm.text())


def test_a_read_only_disk_is_read_and_not_written(start_vmm, tmp_path):
    path = image(tmp_path)
    path.chmod(0o444)
    vmm = start_vmm(*disk(path, "readonly=on"), kernel=guest("virtio_blk"), append="bad=read_only")
    assert vmm.wait() == 0, vmm.stderr()
    assert f"bad=read_only {OK:#x} {IO_ERROR | ONE:#x}\n" in vmm.text()
    assert "read=0\n" in vmm.text() and "blk=end" in vmm.text()
    assert REFUSED + "a change of a read-only disk" in vmm.stderr()
    assert path.read_bytes() == bytes(16 << 20)


def test_many_vms_read_one_image(start_vmm, tmp_path):
    path = image(tmp_path)
    vmms = [start_vmm("-S", *disk(path, "readonly=on"), kernel=guest("virtio_blk")) for _ in range(3)]
    for vmm in vmms:
        vmm.qmp.command("cont")
        assert vmm.wait() == 0, vmm.stderr()
        assert "read=0\n" in vmm.text()


def test_a_second_vm_does_not_get_the_image(start_vmm, tmp_path):
    path = image(tmp_path)
    first = start_vmm("-S", *disk(path), kernel=guest("virtio_blk"))
    first.qmp.command("query-status")
    for drive in ("", "readonly=on"):
        second = start_vmm(*disk(path, drive), kernel=guest("virtio_blk"))
        assert second.wait() == 1
        assert str(path) in second.stderr() and "lock" in second.stderr()
    third = start_vmm(*disk(path, "locking=off"), kernel=guest("virtio_blk"))
    assert third.wait() == 0, third.stderr()


def done(vmm):
    """How many batches the guest says it has finished."""
    return vmm.text().count("done=")


@pytest.mark.parametrize("packed", ["off", "on"])
def test_steady_work_is_all_there_at_the_end(start_vmm, tmp_path, packed):
    vmm = run_to_end(start_vmm, *disk(image(tmp_path), "", f"packed={packed}"), kernel=guest("virtio_blk"), append="work=40")
    assert vmm.values()["verify"] == "0" and vmm.values()["errors"] == "0"


def run_times(vmm):
    """How many ns each thread has run, by name."""
    tasks = f"/proc/{vmm.pid}/task"
    return {open(f"{tasks}/{task}/comm").read().strip(): int(open(f"{tasks}/{task}/schedstat").read().split()[0])
            for task in os.listdir(tasks)}


@pytest.mark.parametrize("engine", ["aio=io_uring", "aio=native", "aio=threads"])
def test_each_queue_may_have_a_thread_of_its_own(start_vmm, tmp_path, engine):
    threads = [word for name in "abc" for word in ("-object", f"iothread,id=queue-{name}")]
    vmm = start_vmm(*threads, *disk(image(tmp_path), engine, "num-queues=3,iothreads=queue-a:queue-b"), kernel=guest("virtio_blk"),
                    append="work=40 queues=3", more_kib=3 * KIB_OF_A_DEEP_QUEUE)
    vmm.wait_for(r"done=1\n")
    before = run_times(vmm)
    vmm.wait_for(r"done=6\n")
    vmm.qmp.command("stop")
    vmm.qmp.command("cont")
    after = run_times(vmm)
    ran = {name: after[f"queue-{name}"] - before[f"queue-{name}"] for name in "abc"}
    assert "io" not in after and ran["a"] > 0 and ran["b"] > 0 and ran["c"] == 0, ran
    assert vmm.wait() == 0, vmm.stderr()
    assert vmm.values()["verify"] == "0" and vmm.values()["errors"] == "0"


@pytest.mark.parametrize("packed", ["off", "on"])
def test_stop_and_cont_in_the_middle_of_io_lose_nothing(start_vmm, tmp_path, packed):
    vmm = start_vmm(*disk(image(tmp_path), "", f"packed={packed}"), kernel=guest("virtio_blk"), append="work=60")
    for count in range(1, 40, 4):
        vmm.wait_for(rf"done={count}\n")
        vmm.qmp.command("stop")
        before = done(vmm)
        time.sleep(0.02)
        assert done(vmm) == before
        vmm.qmp.command("cont")
    assert vmm.wait() == 0, vmm.stderr()
    assert vmm.values()["verify"] == "0" and vmm.values()["errors"] == "0"


@pytest.mark.parametrize("device, drive, queues", [("packed=off", "", 1), ("packed=on", "", 1), ("packed=off", "throttling.iops-total=2000", 1),
                                                   ("num-queues=4,iothreads=a:b", "", 4)])
def test_saved_in_the_middle_of_io_it_goes_on_elsewhere(start_vmm, tmp_path, device, drive, queues):
    path = image(tmp_path)
    options = ("-object", "iothread,id=a", "-object", "iothread,id=b", *disk(path, drive, device))
    work = {"kernel": guest("virtio_blk"), "append": f"work=30 queues={queues}", "more_kib": queues * KIB_OF_A_DEEP_QUEUE}
    first = start_vmm(*options, **work)
    first.wait_for(r"done=10\n")
    first.qmp.command("stop")
    save(first, tmp_path / "saved")
    first.qmp.command("quit")
    assert first.wait() == 0
    assert done(first) < 30
    second = start_vmm("-incoming", f"file:{tmp_path}/saved", *options, **work)
    assert second.wait() == 0, second.stderr()
    assert second.values()["verify"] == "0" and second.values()["errors"] == "0"


def test_an_image_that_grew_while_the_vm_was_saved_is_told(start_vmm, tmp_path):
    path = image(tmp_path)
    first = start_vmm(*disk(path), kernel=guest("virtio_blk"), append="resize")
    first.wait_for(r"waiting=32768\n")
    first.qmp.command("stop")
    save(first, tmp_path / "saved")
    first.qmp.command("quit")
    assert first.wait() == 0
    os.truncate(path, 32 << 20)
    second = start_vmm("-incoming", f"file:{tmp_path}/saved", *disk(path), kernel=guest("virtio_blk"), append="resize")
    assert second.wait() == 0, second.stderr()
    assert "resized=65536\n" in second.text() and "last=0\n" in second.text()


@pytest.mark.parametrize("engine", ["aio=io_uring", "aio=native", "aio=threads"])
def test_a_killed_vm_leaves_a_free_and_sound_image(start_vmm, tmp_path, engine):
    path = image(tmp_path)
    for _ in range(3):
        vmm = start_vmm(*disk(path, engine), kernel=guest("virtio_blk"), append="work=100000")
        vmm.wait_for(r"done=5\n")
        vmm.signal(9)
        vmm.wait()
        content = path.read_bytes()
        last = max(int(line[5:]) for line in vmm.text().splitlines() if line.startswith("done=") and line[5:].isdigit())
        for sector in range(len(content) // SECTOR):
            words = content[sector * SECTOR:(sector + 1) * SECTOR]
            assert words == words[:16] * (SECTOR // 16), f"sector {sector} is torn"
            number, batch = int.from_bytes(words[:8], "little"), int.from_bytes(words[8:16], "little")
            assert (number, batch) == (0, 0) or (number == sector and batch > 0)
        places = len(content) // SECTOR // 256
        for batch in range(max(1, last - places + 3), last):
            first = batch % places * 256
            assert int.from_bytes(content[first * SECTOR + 8:first * SECTOR + 16], "little") >= batch, "an answered write is not there"
        again = start_vmm(*disk(path, engine), kernel=guest("virtio_blk"))
        assert again.wait() == 0, again.stderr()
        path.write_bytes(bytes(16 << 20))


def test_a_quit_under_load_ends_the_process(start_vmm, tmp_path):
    for engine in ("aio=io_uring", "aio=native", "aio=threads"):
        vmm = start_vmm(*disk(image(tmp_path), engine), kernel=guest("virtio_blk"), append="work=100000")
        vmm.wait_for(r"done=3\n")
        vmm.qmp.command("quit")
        assert vmm.wait() == 0, vmm.stderr()


def test_a_guest_that_resets_the_machine_finds_the_disk_as_new(start_vmm, tmp_path):
    vmm = start_vmm(*disk(image(tmp_path), "discard=unmap"), "-action", "reboot=reset", kernel=guest("virtio_blk"), append="end=reset")
    vmm.wait_for(r"(?s)(blk=end.*){3}")
    check_good(vmm.text())


def test_a_resize_is_seen_at_once(start_vmm, tmp_path):
    path = image(tmp_path)
    vmm = start_vmm(*disk(path), kernel=guest("virtio_blk"), append="resize")
    vmm.wait_for(r"waiting=32768\n")
    vmm.qmp.command("block_resize", device="drive0", size=24 << 20)
    assert vmm.wait() == 0, vmm.stderr()
    assert "resized=49152\n" in vmm.text() and "last=0\n" in vmm.text()
    assert path.stat().st_size == 24 << 20


def test_a_resize_during_io_disturbs_nobody(start_vmm, tmp_path):
    vmm = start_vmm(*disk(image(tmp_path)), kernel=guest("virtio_blk"), append="work=60")
    for count in range(1, 30, 3):
        vmm.wait_for(rf"done={count}\n")
        vmm.qmp.command("block_resize", **{"node-name": "blk0", "size": (16 + count) << 20})
    assert vmm.wait() == 0, vmm.stderr()
    assert vmm.values()["errors"] == "0" and vmm.values()["verify"] == "0"


def test_a_file_that_shrinks_under_the_guest_harms_nobody(start_vmm, tmp_path):
    path = image(tmp_path)
    vmm = start_vmm(*disk(path, "aio=threads"), kernel=guest("virtio_blk"), append="work=40")
    vmm.wait_for(r"done=2\n")
    os.truncate(path, 1 << 20)
    assert vmm.wait() == 0, vmm.stderr()
    assert "blk=end" in vmm.text()


def test_the_limiter_holds_a_guest_to_its_rate(start_vmm, tmp_path):
    rate = 1000
    vmm = start_vmm(*disk(image(tmp_path), f"throttling.iops-total={rate}"), kernel=guest("virtio_blk"), append="work=8")
    vmm.wait_for(r"done=1\n")
    began = time.monotonic()
    assert vmm.wait() == 0
    elapsed = time.monotonic() - began
    operations = 7 * 256 + 8 * 256  # the other batches, and reading back
    assert operations <= rate * elapsed + rate / 10 + 1
    assert vmm.values()["errors"] == "0"


def written(path):
    """How many sectors of work are in the file; the first 127 batches lie side by side."""
    content = path.read_bytes()
    return sum(content[at:at + 16] != bytes(16) for at in range(0, len(content), SECTOR))


def held_to(path, rate, burst, seconds=1.5):
    """Asserts that some work is done meanwhile, and no more than the rate allows. What was admitted before is over."""
    time.sleep(0.2)
    began = time.monotonic()
    before = written(path)
    time.sleep(seconds)
    operations = written(path) - before
    assert 0 < operations <= rate * (time.monotonic() - began) + burst


def throttle(vmm, name="blk0", **limits):
    """block_set_io_throttle with the numbers that QEMU wants; underscores stay as they are."""
    all_limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0) | limits
    return vmm.qmp.request("block_set_io_throttle", {"id": name, **all_limits})


def test_the_limits_of_a_disk_change_while_it_works(start_vmm, tmp_path):
    path = image(tmp_path)
    vmm = start_vmm(*disk(path), kernel=guest("virtio_blk"), append="work=60")
    vmm.qmp.command("query-status")
    vmm.wait_for(r"done=1\n")
    throttle(vmm, iops=200, iops_max=10)
    held_to(path, 200, 10)
    throttle(vmm, "drive0", bps=400 * SECTOR)  # by the drive's name
    held_to(path, 400, 40)
    assert done(vmm) < 60
    throttle(vmm)
    assert vmm.wait() == 0, vmm.stderr()
    assert vmm.values()["verify"] == "0" and vmm.values()["errors"] == "0"


def test_the_limits_of_a_group_change_while_its_disks_work(start_vmm, tmp_path):
    path = image(tmp_path)
    vmm = start_vmm("-object", "throttle-group,id=g,x-iops-total=300,x-iops-total-max=10", *disk(path, "throttling.group=g"),
                    kernel=guest("virtio_blk"), append="work=10")
    group = {"path": "/objects/g", "property": "limits"}
    assert vmm.qmp.request("qom-get", group)["iops-total"] == 300
    vmm.wait_for(r"done=1\n")
    vmm.qmp.request("qom-set", {**group, "value": {"iops-total": 100}})
    held_to(path, 100, 10)
    throttle(vmm, bps=200 * SECTOR, bps_max=4096)  # of a disk of the group: of the group
    limits = vmm.qmp.request("qom-get", group)
    assert (limits["iops-total"], limits["bps-total"], limits["bps-total-max"]) == (0, 200 * SECTOR, 4096)
    held_to(path, 200, 8)
    assert done(vmm) < 10
    vmm.qmp.request("qom-set", {**group, "value": {"bps-total": 0, "bps-total-max": 0}})
    assert vmm.wait() == 0, vmm.stderr()
    assert vmm.values()["verify"] == "0" and vmm.values()["errors"] == "0"


def test_limits_that_cannot_be_are_refused_by_name(start_vmm, tmp_path):
    vmm = start_vmm("-S", *disk(image(tmp_path)), kernel=guest("virtio_blk"))
    for name, limits, error, words in (("nobody", {}, "DeviceNotFound", "'nobody'"), ("blk0", {"bps_rd": 1}, "GenericError", "'bps_rd'"),
                                       ("blk0", {"iops_max": 1}, "GenericError", "iops_max= needs iops=")):
        with pytest.raises(QmpError) as refused:
            throttle(vmm, name, **limits)
        assert refused.value.error["class"] == error and words in refused.value.error["desc"]
    with pytest.raises(QmpError) as refused:
        vmm.qmp.request("qom-set", {"path": "/objects/g", "property": "limits", "value": {}})
    assert refused.value.error == {"class": "DeviceNotFound", "desc": "qom-set: there is no throttle-group 'g'"}
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


@pytest.fixture
def full_disk(tmp_path):
    """A directory on a file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"tmpfs can't be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def wait_io_error(vmm):
    vmm.qmp.wait_event("BLOCK_IO_ERROR")
    vmm.qmp.wait_status("io-error")


def make_room(place):
    subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)


def test_a_full_host_stops_the_guest_and_nothing_is_lost(start_vmm, full_disk):
    vmm = start_vmm("-S", *disk(image(full_disk), "direct=off"), kernel=guest("virtio_blk"), append="work=70")
    vmm.qmp.command("cont")
    wait_io_error(vmm)
    vmm.qmp.command("cont")  # still full: stopped again
    wait_io_error(vmm)
    make_room(full_disk)
    vmm.qmp.command("cont")
    assert vmm.wait() == 0, vmm.stderr()
    assert vmm.values()["verify"] == "0" and vmm.values()["errors"] == "0"


def test_a_guest_that_waits_for_space_can_be_saved(start_vmm, full_disk, tmp_path):
    options = disk(image(full_disk), "direct=off")
    first = start_vmm("-S", *options, kernel=guest("virtio_blk"), append="work=70")
    first.qmp.command("cont")
    wait_io_error(first)
    save(first, tmp_path / "saved")
    first.qmp.command("quit")
    assert first.wait() == 0
    make_room(full_disk)
    second = start_vmm("-incoming", f"file:{tmp_path}/saved", *options, kernel=guest("virtio_blk"), append="work=70")
    assert second.wait() == 0, second.stderr()
    assert second.values()["verify"] == "0" and second.values()["errors"] == "0"


def test_a_guest_may_be_told_of_a_full_host_instead(start_vmm, full_disk):
    vmm = start_vmm(*disk(image(full_disk), "direct=off,werror=report"), kernel=guest("virtio_blk"), append="work=70")
    assert vmm.wait() == 0, vmm.stderr()
    assert int(vmm.values()["errors"]) > 0


@pytest.mark.parametrize("options, message", [
    (("-device", "virtio-blk-device,drive=nope,id=d"), "-device d: drive=nope: no -drive has id=nope"),
    (("-drive", "id=d,file=/nonexistent/disk", "-device", "virtio-blk-device,drive=d,id=b"), "/nonexistent/disk"),
    (("-drive", "id=d,file=IMAGE", "-device", "virtio-blk-device,drive=d,id=b", "-device", "virtio-blk-device,drive=d,id=c"),
     "-device c: drive=d: device 'b' has it already"),
    (("-drive", "id=d,file=IMAGE", "-drive", "id=e,file=IMAGE"), "can only be shared with readonly=on"),
    (("-drive", "id=d,file=IMAGE", "-device", "virtio-blk-device,drive=d,id=b,num-queues=33"), "num-queues=33: must be 1..32"),
    (("-drive", "id=d,file=IMAGE,colour=red"), "unknown property 'colour'"),
    (("-drive", "id=d,file=IMAGE,format=qcow2"), "format=qcow2: not part of this version"),
    (("-drive", "id=d,file=IMAGE,aio=native,direct=off"), "aio=native: needs direct=on"),
    (("-drive", "id=d,file=EMPTY", "-device", "virtio-blk-device,drive=d,id=b"), "EMPTY"),
    (("-drive", "id=d,file=/", "-device", "virtio-blk-device,drive=d,id=b"), "-drive id=d: "),
])
def test_a_wrong_option_is_named(start_vmm, tmp_path, options, message):
    names = {"IMAGE": str(image(tmp_path)), "EMPTY": str(image(tmp_path, 0, "empty.img"))}
    for word, path in names.items():
        options = tuple(option.replace(word, path) for option in options)
        message = message.replace(word, path)
    vmm = start_vmm(*options, kernel=guest("virtio_blk"))
    assert vmm.wait() == 1
    assert message in vmm.stderr()
