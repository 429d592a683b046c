"""virtio_rng: a driver on virtio-mmio gets random bytes, whatever it or another did to the device before."""
import re
import time

import pytest
from vmm import device_line, forms, guest, machines, only_on, run_to_end

SOURCE = ("-object", "rng-random,id=rng0,filename=/dev/urandom")
DEVICE = (*SOURCE, "-device", "virtio-rng-device,rng=rng0,id=rng0dev")
LIMITED = (*SOURCE, "-device", "virtio-rng-device,rng=rng0,id=rng0dev,max-bytes=64,period=")

# What a hostile driver does (guests/virtio_rng.cc) -> what the VMM says of it, the status that the driver sees then, and a value.
OK, NEEDS_RESET, FEATURES = 0xf, 0x4f, 0xb
CASES = {
    "widths": ("register write that is not 4 bytes wide and aligned", 0, 0),
    "beyond": (None, 0, 0xffffffffffffffff),
    "late_features": ("features after FEATURES_OK", FEATURES, 0),
    "unknown_features": ("features that are not offered", 3, 3),
    "no_features_ok": ("DRIVER_OK before FEATURES_OK", 0, 0),
    "late_queue": ("queue setup at the wrong time", OK, 16),
    "status_back": ("status that goes back without a reset", OK, OK),
    "absent_queue": ("notification of a queue that does not run", OK, 0),
    "queue_0": ("", FEATURES, 0),
    "queue_3": ("", FEATURES, 0),
    "queue_32769": ("", FEATURES, 0),
    "ring_outside": ("", FEATURES, 0),
    "ring_on_device": ("", FEATURES, 0),
    "ring_overlap": ("", FEATURES, 0),
    "desc_loop": ("", NEEDS_RESET, 0),
    "head_beyond": ("", NEEDS_RESET, 0),
    "next_beyond": ("", NEEDS_RESET, 0),
    "avail_jump": ("", NEEDS_RESET, 0),
    "hole": ("", NEEDS_RESET, 0),
    "on_mmio": ("", NEEDS_RESET, 0),
    "wrapping": ("", NEEDS_RESET, 0),
    "over_the_ring": ("", NEEDS_RESET, 0),
    "writable_first": ("", NEEDS_RESET, 0),
    "nothing_writable": ("a buffer without room for a random byte", OK, 0),
    "zero_length": ("a buffer without room for a random byte", OK, 0),
    "four_gib_less_1": (None, OK, 65536),
    "four_gib": ("", NEEDS_RESET, 0),
    "odd_table": ("", NEEDS_RESET, 0),
    "indirect_in_chain": ("", NEEDS_RESET, 0),
    "indirect_in_table": ("", NEEDS_RESET, 0),
    "resets": (None, 0, 0),
}
SPLIT_ONLY = ("queue_3", "head_beyond", "next_beyond", "avail_jump")
PACKED = {case: result for case, result in CASES.items() if case not in SPLIT_ONLY} | {
    "wrong_wrap": (None, OK, 16),
    "wrap_in_chain": ("", NEEDS_RESET, 0),
    "id_beyond": (None, OK, 0xffff << 32 | 16),  # a driver may name its buffers as it likes
    "event_beyond": (None, OK, 48),
}


def answers(text):
    """What each request got, as bytes."""
    found = [(int(length), bytes.fromhex(data)) for length, data in re.findall(r"^bytes\.\d+=(\d+) ([0-9a-f]*)$", text, re.M)]
    assert all(length == len(data) for length, data in found)
    return [data for _, data in found]


def check_answers(text, length=64):
    first, second = answers(text)
    assert len(first) == len(second) == length
    assert first != second
    assert bytes(length) not in (first, second)
    assert "rng=end" in text


@pytest.mark.parametrize("kernel", forms("virtio_rng"))
@pytest.mark.parametrize("machine", machines())
def test_a_driver_gets_random_bytes_by_interrupts(start_vmm, kernel, machine):
    vmm = run_to_end(start_vmm, *DEVICE, kernel=guest(kernel), machine=machine)
    check_answers(vmm.text())
    values = vmm.values()
    assert re.fullmatch(device_line(4), values["device"])
    assert int(values["features"], 16) >> 32 & 1
    assert int(values["interrupts"]) == 2
    assert vmm.stderr() == ""


def test_memory_that_others_share_works_as_well(start_vmm):
    check_answers(run_to_end(start_vmm, *DEVICE, kernel=guest("virtio_rng"), machine="microvm,mem-share=on").text())


def test_without_a_device_there_is_no_argument(start_vmm):
    vmm = run_to_end(start_vmm, kernel=guest("virtio_rng"))
    assert vmm.values()["device"] == "none"


@pytest.mark.parametrize("devices, threads", [((), 0), (DEVICE, 1), ((*DEVICE, "-device", "virtio-rng-device,rng=rng0,id=second"), 1)])
def test_the_io_thread_is_there_when_a_device_is(start_vmm, devices, threads):
    vmm = start_vmm("-S", *devices, kernel=guest("virtio_rng"))
    assert vmm.qmp.command("query-status")["status"] == "prelaunch"
    names = vmm.thread_names()
    assert names.count("io") == threads, names


def test_a_device_runs_on_the_thread_that_it_names(start_vmm):
    thread = ("-object", "iothread,id=mine,poll-max-ns=50000")
    vmm = run_to_end(start_vmm, *thread, *DEVICE[:-1], DEVICE[-1] + ",iothread=mine", kernel=guest("virtio_rng"))
    check_answers(vmm.text())
    paused = start_vmm("-S", *thread, *DEVICE[:-1], DEVICE[-1] + ",iothread=mine", kernel=guest("virtio_rng"))
    assert paused.qmp.command("query-status")["status"] == "prelaunch"
    names = paused.thread_names()
    assert names.count("mine") == 1 and "io" not in names, names


@pytest.mark.parametrize("packed", ["on", "off"])
def test_packed_rings_are_offered_when_asked_for_and_serve_as_well(start_vmm, packed):
    vmm = run_to_end(start_vmm, *DEVICE[:-1], DEVICE[-1] + f",packed={packed}", kernel=guest("virtio_rng"))
    assert int(vmm.values()["features"], 16) >> 34 & 1 == (packed == "on")
    check_answers(vmm.text())


def test_a_machine_that_has_not_run_is_saved_with_its_device(start_vmm, tmp_path):
    first = start_vmm("-S", *DEVICE, kernel=guest("virtio_rng"))
    first.qmp.command("migrate", uri=f"file:{tmp_path}/saved")
    while first.qmp.command("query-migrate").get("status") not in ("completed", "failed"):
        time.sleep(0.02)
    second = start_vmm("-incoming", f"file:{tmp_path}/saved", *DEVICE, kernel=guest("virtio_rng"))
    assert second.wait() == 0, second.stderr()
    check_answers(second.text())


def test_the_bytes_are_those_of_the_file(start_vmm, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(bytes(range(128)))
    vmm = run_to_end(start_vmm, "-object", f"rng-random,id=r,filename={source}", "-device", "virtio-rng-device,rng=r,id=d",
                     kernel=guest("virtio_rng"))
    assert b"".join(answers(vmm.text())) == bytes(range(128))


def test_the_limiter_makes_the_second_request_wait(start_vmm):
    vmm = start_vmm(*LIMITED[:-1], LIMITED[-1] + "1000", kernel=guest("virtio_rng"))
    vmm.wait_for(r"asked=1\n")
    began = time.monotonic()
    assert vmm.wait() == 0
    check_answers(vmm.text())
    assert time.monotonic() - began > 0.8


def test_devices_of_a_throttle_group_share_its_limit(start_vmm):
    vmm = start_vmm("-object", "throttle-group,id=slow,x-bps-total=64,x-bps-total-max=64", *DEVICE[:-1], DEVICE[-1] + ",throttle-group=slow",
                    "-device", "virtio-rng-device,rng=rng0,id=other,throttle-group=slow", kernel=guest("virtio_rng"))
    vmm.wait_for(r"asked=1\n")
    began = time.monotonic()
    assert vmm.wait() == 0
    check_answers(vmm.text())
    assert time.monotonic() - began > 0.8


@pytest.mark.parametrize("packed, case", [*(("off", case) for case in CASES), *(("on", case) for case in PACKED)])
def test_a_hostile_driver_harms_nobody_and_the_device_recovers(start_vmm, packed, case):
    said, status, value = (PACKED if packed == "on" else CASES)[case]
    vmm = start_vmm(*DEVICE[:-1], DEVICE[-1] + f",packed={packed}", kernel=guest("virtio_rng"), append=f"bad={case}")
    assert vmm.wait() == 0, vmm.stderr()
    assert f"bad={case} {status:#x} {value:#x}\n" in vmm.text()
    check_answers(vmm.text())
    errors = vmm.stderr()
    if said is None:
        assert errors == ""
    else:
        assert "refused: " + said in errors or "rng0dev: " + said in errors
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


@pytest.mark.parametrize("packed", ["off", "on"])
def test_requests_that_another_processor_rewrites_harm_nobody(start_vmm, packed):
    vmm = start_vmm(*DEVICE[:-1], DEVICE[-1] + f",packed={packed}", kernel=guest("virtio_rng"), append="bad=rewritten", smp=2)
    assert vmm.wait() == 0, vmm.stderr()
    assert f"bad=rewritten {OK:#x} 0x0\n" in vmm.text()
    requests, faults = re.search(r"rewritten=(\d+) faults=(\d+)\n", vmm.text()).groups()
    assert int(requests) >= 10000 and int(faults) > 0
    check_answers(vmm.text())


def test_a_request_that_waits_is_saved_and_answered_after_the_restore(start_vmm, tmp_path):
    saved = tmp_path / "saved"
    limited = (*LIMITED[:-1], LIMITED[-1] + "1000")
    first = start_vmm(*limited, kernel=guest("virtio_rng"))
    first.wait_for(r"asked=2\n")
    first.qmp.command("stop")
    first.qmp.command("migrate", uri=f"file:{saved}")
    while first.qmp.command("query-migrate").get("status") not in ("completed", "failed"):
        time.sleep(0.02)
    first.qmp.command("quit")
    assert first.wait() == 0
    assert len(answers(first.text())) == 1

    second = start_vmm("-incoming", f"file:{saved}", *limited, kernel=guest("virtio_rng"))
    assert second.wait() == 0, second.stderr()
    check_answers(first.text() + second.text())


def test_stop_and_cont_lose_no_request(start_vmm):
    vmm = start_vmm(*LIMITED[:-1], LIMITED[-1] + "1000", kernel=guest("virtio_rng"))
    vmm.wait_for(r"asked=2\n")
    for _ in range(5):
        vmm.qmp.command("stop")
        vmm.qmp.command("cont")
    assert vmm.wait() == 0
    check_answers(vmm.text())


def test_a_guest_that_resets_finds_the_device_as_new(start_vmm):
    vmm = start_vmm(*DEVICE, "-action", "reboot=reset", kernel=guest("virtio_rng"), append="end=reset")
    vmm.wait_for(r"(?s)(rng=end.*){3}")
    assert vmm.process.poll() is None


def test_a_quit_while_a_request_waits_ends_the_process(start_vmm):
    vmm = start_vmm(*LIMITED[:-1], LIMITED[-1] + "1000", kernel=guest("virtio_rng"))
    vmm.wait_for(r"asked=2\n")
    vmm.qmp.command("quit")
    assert vmm.wait() == 0


@pytest.mark.parametrize("options, message", [
    (("-device", "virtio-rng-device,rng=rng0,id=d"), "rng=rng0: no -object rng-random has id=rng0"),
    ((*SOURCE, "-device", "virtio-rng-device,id=d"), "needs rng="),
    (("-object", "rng-random,id=rng0"), "needs filename="),
    (("-object", "rng-random,id=rng0,filename=/nonexistent", "-device", "virtio-rng-device,rng=rng0,id=d"), "/nonexistent"),
    (("-object", "rng-random,id=rng0,filename=/", "-device", "virtio-rng-device,rng=rng0,id=d"), "a directory"),
    ((*SOURCE, "-device", "virtio-rng-device,rng=rng0,id=d,throttle-group=x"), "throttle-group=x: no -object throttle-group has id=x"),
    ((*SOURCE, "-device", "virtio-rng-device,rng=rng0,id=d,iothread=x"), "-device d: iothread=x: no -object iothread has id=x"),
    (tuple(word for n in range(9) for word in ("-object", f"iothread,id=t{n}")), "'iothread,id=t8': there can be at most 8 iothreads"),
    ((*DEVICE, "-device", "virtio-rng-device,rng=rng0,id=rng0dev"), "the id 'rng0dev' is taken"),
    ((*SOURCE, "-device", "virtio-rng-device,rng=rng0,id=d,max-bytes=10,period=1000"), "64 to 1000000000 bytes per second"),
    ((*SOURCE, "-device", "virtio-rng-device,rng=rng0,id=d,max-bytes=10"), "need each other"),
    pytest.param((*SOURCE, *(word for n in range(83) for word in ("-device", f"virtio-rng-device,rng=rng0,id=d{n}"))), "no interrupt is left",
                 marks=only_on("x86_64", "two I/O APICs have 82 pins to give")),
])
def test_a_wrong_option_is_named(start_vmm, options, message):
    vmm = start_vmm(*options, kernel=guest("virtio_rng"))
    assert vmm.wait() == 1
    assert message in vmm.stderr()
