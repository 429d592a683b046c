"""virtio_pmem: a file as memory, flushed when a driver wants it, whatever it or another did before; a file that is cut short ends the VM."""
import contextlib
import functools
import os
import re
import time

import pytest
from vmm import SCALE, TIMEOUT, device_line, forms, guest, machines, run_to_end

MIB = 1 << 20
SIZE = 4 * MIB
OLD = b"\x11" * 8

# What a hostile driver does (guests/virtio_pmem.cc) -> what the VMM says of it, the status that the driver sees then, and a value:
# the answer (0 flushed, 1 failed, none) and the length that came with it.
OK, NEEDS_RESET = 0xf, 0x4f
NONE, NEVER = 0xaaaaaaaa << 32, (1 << 64) - 1
FAILED = 1 << 32
CASES = {
    "unknown_type": ("a request that is no flush", OK, FAILED | 4),
    "short_request": ("a request that is no flush", OK, FAILED | 4),
    "long_request": (None, None, None),  # what memory holds there is the type
    "no_answer": ("a request without room for the answer", OK, NONE),
    "short_answer": ("a request without room for the answer", OK, NONE),
    "long_answer": (None, OK, NONE | 4),  # it is elsewhere
    "request_in_hole": ("bad address", NEEDS_RESET, NEVER),
    "answer_in_hole": ("bad address", NEEDS_RESET, NEVER),
    "past_the_end": ("bad address", NEEDS_RESET, NEVER),
    "in_pmem": (None, OK, 4),
    "config_writes": ("write to read-only configuration", OK, 0),
    "resets": (None, 0, 0),
    "index_jump": (None, None, 0),  # a packed ring has no index
}


@pytest.fixture
def start_vmm(start_vmm):
    """The guest's file is smaller than what the watch knows as guest memory."""
    return functools.partial(start_vmm, more_kib=SIZE >> 10)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    with open(path, "wb") as file:
        file.write(OLD)
        file.truncate(SIZE - 8)
        file.seek(SIZE - 8)
        file.write(OLD)
    return path


def options(image, more="", device=""):
    return ("-object", f"memory-backend-file,id=mem0,mem-path={image},size=4M{more}", "-device", f"virtio-pmem-device,id=pmem0,memdev=mem0{device}")


def ends(image):
    data = image.read_bytes()
    return data[:8], data[-8:]


def check(vmm, first=f"{0x1111111111111111:#x}", flushed=1):
    text = vmm.text()
    assert f"first={first} last={first}\n" in text
    assert f"flushed={flushed} failed=0 others=0\n" in text
    assert "pmem=end" in text


@pytest.mark.parametrize("kernel", forms("virtio_pmem"))
@pytest.mark.parametrize("machine", machines())
def test_what_the_guest_writes_is_in_the_file(start_vmm, image, kernel, machine):
    vmm = run_to_end(start_vmm, *options(image), kernel=guest(kernel), machine=machine, append="write=2459565876494606882 flushes=8")
    check(vmm, flushed=8)
    assert re.fullmatch(device_line(27), vmm.values()["device"])
    assert "pmem=0x100000000 0x400000\n" in vmm.text() and "interrupts=some\n" in vmm.text()
    assert vmm.stderr() == ""
    assert ends(image) == (b"\x22" * 8, b"\x22" * 8)


@pytest.mark.parametrize("packed", ["off", "on"])
def test_a_place_of_its_own_and_an_iothread(start_vmm, image, packed):
    vmm = run_to_end(start_vmm, *options(image, device=f",memaddr=0x180200000,packed={packed},iothread=io"), "-object", "iothread,id=io",
                     kernel=guest("virtio_pmem"), append="write=1")
    check(vmm)
    assert "pmem=0x180200000 0x400000\n" in vmm.text()


def test_what_is_private_is_not(start_vmm, image):
    vmm = run_to_end(start_vmm, *options(image, ",share=off"), kernel=guest("virtio_pmem"), append="write=34")
    check(vmm)
    assert "wrote=0x22 0x22\n" in vmm.text()
    assert ends(image) == (OLD, OLD)


@pytest.mark.parametrize("more", [",readonly=on", ",readonly=on,share=off"])
def test_what_is_read_only_stays_as_it_is(start_vmm, image, more):
    image.chmod(0o400)
    vmm = run_to_end(start_vmm, *options(image, more), kernel=guest("virtio_pmem"), append="write=34")
    check(vmm)
    assert "wrote=0x1111111111111111 0x1111111111111111\n" in vmm.text()
    assert ends(image) == (OLD, OLD)


def test_a_new_file_becomes_as_large_as_it_is_said_to_be(start_vmm, tmp_path):
    image = tmp_path / "new"
    check(run_to_end(start_vmm, *options(image), kernel=guest("virtio_pmem"), append="write=2459565876494606882"), first="0x0")
    assert os.path.getsize(image) == SIZE and ends(image) == (b"\x22" * 8, b"\x22" * 8)


@pytest.mark.parametrize("packed, case", [(packed, case) for packed in ("off", "on") for case in CASES])
def test_a_hostile_driver_harms_nobody_and_the_device_recovers(start_vmm, image, packed, case):
    said, status, value = CASES[case]
    vmm = start_vmm(*options(image, device=f",packed={packed}"), kernel=guest("virtio_pmem"), append=f"bad={case}")
    assert vmm.wait() == 0, vmm.stderr()
    seen = re.search(rf"bad={case} (0x[0-9a-f]+) (0x[0-9a-f]+)\n", vmm.text())
    assert seen, vmm.text()
    assert value in (None, int(seen[2], 16)) and status in (None, int(seen[1], 16)), vmm.text()
    assert "flushed=1 failed=0 others=0\n" in vmm.text() and "pmem=end" in vmm.text()
    errors = vmm.stderr()
    if status is not None:
        assert errors == "" if said is None else said in errors
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


# Who touches what is not there any more: the processor (KVM), or the device (a thread of ours).
@pytest.mark.parametrize("more", ["", ",share=off", ",readonly=on"])
@pytest.mark.parametrize("touch", ["read", "write", "device", "ring"])
def test_a_file_that_is_cut_short_ends_the_vm_and_is_named(start_vmm, image, touch, more):
    if more == ",readonly=on" and touch in ("write", "ring"):
        touch = "read"  # ROM is not written to, and is no place for a ring
    vmm = start_vmm(*options(image, more), kernel=guest("virtio_pmem"), append=f"touch={touch}")
    vmm.wait_for("touches\n")
    os.truncate(image, SIZE - MIB)
    with contextlib.suppress(OSError):  # it may have noticed already
        vmm.write(b"x")
    assert vmm.wait() == 1
    assert "touched=" not in vmm.text()
    assert f"guest memory in the file {image} is gone" in vmm.stderr()


def save(vmm, saved):
    vmm.qmp.command("migrate", uri=f"file:{saved}")
    deadline = time.monotonic() + TIMEOUT * SCALE
    while (status := vmm.qmp.command("query-migrate").get("status")) not in ("completed", "failed"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return status


@pytest.mark.parametrize("machine", ["microvm", "microvm,mem-share=on"])
@pytest.mark.parametrize("more, first", [("", 0x33), (",share=off", 0x22)])
def test_a_machine_is_saved_with_what_its_file_does_not_have(start_vmm, image, tmp_path, machine, more, first):
    saved = tmp_path / "saved"
    vmm = start_vmm(*options(image, more), kernel=guest("virtio_pmem"), machine=machine, append="write=34 wait again=2")
    vmm.wait_for("waits\n")
    vmm.write(b"x")
    vmm.wait_for("flushed=1 failed=0 others=0\nwaits\n".replace("\n", r"\r?\n"))
    vmm.qmp.command("stop")
    assert save(vmm, saved) == "completed"
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    with open(image, "r+b") as file:
        file.write((0x33).to_bytes(8, "little"))
    copy = start_vmm("-incoming", f"file:{saved}", *options(image, more), "-S", kernel=guest("virtio_pmem"), machine=machine)
    copy.qmp.command("cont")
    copy.write(b"x")
    assert copy.wait() == 0, copy.stderr()
    assert "flushed=1 failed=0 others=0\n" in copy.text()
    # Only with share=on the guest sees what was written to the file, and the file has what the guest wrote.
    assert f"now={first:#x} 0x22\n" in copy.text()
    assert ends(image) == ((0x33).to_bytes(8, "little"), (0x22).to_bytes(8, "little") if more == "" else OLD)


@pytest.mark.parametrize("more, device, message", [
    (",share=off", "", "-incoming"),
    ("", ",memaddr=0x200000000", "the saved device has 0x400000 bytes at 0x100000000 that lasts"),
])
def test_another_memory_is_not_the_saved_one(start_vmm, image, tmp_path, more, device, message):
    saved = tmp_path / "saved"
    vmm = start_vmm(*options(image), kernel=guest("virtio_pmem"), append="wait")
    vmm.wait_for("waits\n")
    assert save(vmm, saved) == "completed"
    vmm.qmp.command("quit")
    assert vmm.wait() == 0
    copy = start_vmm("-incoming", f"file:{saved}", *options(image, more, device), kernel=guest("virtio_pmem"))
    assert copy.wait() == 1
    assert message in copy.stderr()


def test_stop_and_cont_lose_no_request(start_vmm, image):
    vmm = start_vmm(*options(image), kernel=guest("virtio_pmem"), append="flushes=8 again=200")
    for _ in range(20):
        if vmm.process.poll() is not None:
            break
        vmm.qmp.command("stop")
        vmm.qmp.command("cont")
    assert vmm.wait() == 0, vmm.stderr()
    assert vmm.text().count("flushed=8 failed=0 others=0\n") == 200


def test_a_guest_that_resets_finds_the_device_as_new(start_vmm, image):
    vmm = start_vmm(*options(image), "-action", "reboot=reset", kernel=guest("virtio_pmem"), append="write=34 end=reset")
    vmm.wait_for(r"(?s)(first=0x22 last=0x22.*pmem=end.*){2}")


def object_of(more):
    return ("-object", f"memory-backend-file,id=m,{more}")


PMEM = ("-device", "virtio-pmem-device,id=p,memdev=m")


@pytest.mark.parametrize("wrong, message", [
    (PMEM, "-device p: memdev=m: no -object memory-backend-* has id=m"),
    ((*object_of("size=3M,mem-path=/dev/shm"), *PMEM), "-device p: memdev=m: size=3M: must be a multiple of 2 MiB"),
    ((*object_of("size=2M,mem-path=/nonexistent/x"), *PMEM), "-device p: -object m /nonexistent/x: open: No such file or directory"),
    ((*object_of("size=2M,mem-path=/dev/null,readonly=on"), *PMEM), "-device p"),
    ((*object_of("size=2M,mem-path=/dev/shm"), *PMEM, "-device", "virtio-pmem-device,id=q,memdev=m"), "-device q: memdev=m: device 'p' has it already"),
    ((*object_of("size=2M,mem-path=/dev/shm"), *PMEM[:-1], PMEM[-1] + ",memaddr=0x100000"), "-device p: memaddr=0x100000: must be a multiple of 2 MiB"),
    ((*object_of("size=2M,mem-path=/dev/shm"), *PMEM[:-1], PMEM[-1] + ",memaddr=0x200000"), "-device p: memaddr=0x200000: RAM and devices are below"),
    (("-object", "memory-backend-ram,id=m,size=2M", *PMEM), "-device p: memdev=m: must be a memory-backend-file: only a file lasts"),
])
def test_a_wrong_option_is_named(start_vmm, wrong, message):
    vmm = start_vmm(*wrong, kernel=guest("virtio_pmem"))
    assert vmm.wait() == 1
    assert message in vmm.stderr()
