"""virtio_balloon: memory that a driver gives up reads zero and is the host's again, whatever it or another did before."""
import re
import time

import pytest
from vmm import SCALE, TIMEOUT, QmpError, device_line, forms, guest, machines, run_to_end

DEVICE = ("-device", "virtio-balloon-device,id=balloon0")
REPORTING = ("-device", "virtio-balloon-device,id=balloon0,free-page-reporting=on,deflate-on-oom=on")
MIB = 1 << 20
RAM = 64 * MIB
PAGE = 4096
SPARE = 2048  # pages that the guest plays with

# What a hostile driver does (guests/virtio_balloon.cc) -> what the VMM says of it, the status that the driver sees then, and a value.
OK, NEEDS_RESET = 0xf, 0x4f
CASES = {
    "outside": ("are no memory", OK, 1),
    "duplicates": (None, OK, 3 << 32 | 3),
    "own_rings": (None, None, 0),  # the ring that was taken may have been read before or after
    "never_inflated": (None, OK, 256),
    "long_lists": ("a list of 32768 pages, of which the first 16384 count", OK, 8),
    "longest_list": ("a list of 1073741823 pages, of which the first 16384 count", OK, 1),
    "odd_list": ("a list of 1 pages and 3 bytes", OK, 1),
    "no_list": ("a list of 0 pages and 0 bytes", OK, 0),
    "list_in_hole": ("bad address", NEEDS_RESET, 0),
    "report_in_hole": ("bad address", NEEDS_RESET, 0),
    "report_of_nothing": ("a report of no memory", OK, 0),
    "report_of_parts": (None, OK, 2),
    "report_of_rings": (None, None, 0),
    "sizes": ("write to read-only configuration", OK, 0),
    "statistics": (None, OK, 0),
    "resets": (None, 0, 0),
}


def check(vmm, reporting=False, poisoned=False):
    text = vmm.text()
    assert f"inflated=1536 zero=1536 kept={SPARE - 1536}\n" in text
    assert f"deflated={SPARE}\n" in text
    if reporting:
        zero = 0 if poisoned else 1024
        assert f"reported=1024 zero={zero} kept={SPARE - zero}\n" in text
    else:
        assert "reported=" not in text
    assert "balloon=end" in text


def poll(condition, what):
    deadline = time.monotonic() + TIMEOUT * SCALE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def stats(vmm):
    return vmm.qmp.command("qom-get", path="/machine/peripheral/balloon0", property="guest-stats")


def guest_ram_kib(vmm):
    return vmm.memory_kib("Pss") - vmm.memory_kib("Pss", outside=16 * 1024)


@pytest.mark.parametrize("kernel", forms("virtio_balloon"))
@pytest.mark.parametrize("machine", machines())
def test_what_is_in_the_balloon_reads_zero_and_its_neighbours_stay(start_vmm, kernel, machine):
    vmm = run_to_end(start_vmm, *DEVICE, kernel=guest(kernel), machine=machine)
    check(vmm)
    assert re.fullmatch(device_line(5), vmm.values()["device"])
    assert vmm.stderr() == ""


@pytest.mark.parametrize("packed", ["off", "on"])
@pytest.mark.parametrize("machine", ["microvm", "microvm,mem-share=on"])
def test_free_memory_that_is_reported_reads_zero(start_vmm, packed, machine):
    vmm = run_to_end(start_vmm, *REPORTING[:-1], REPORTING[-1] + f",packed={packed}", kernel=guest("virtio_balloon"), machine=machine)
    check(vmm, reporting=True)
    features = int(vmm.values()["features"], 16)
    assert features & 0x3f == 0x37 and features >> 34 & 1 == (packed == "on")


def test_poisoned_memory_that_is_reported_stays(start_vmm):
    check(run_to_end(start_vmm, *REPORTING, kernel=guest("virtio_balloon"), append="poison=2863311530"), reporting=True, poisoned=True)


@pytest.mark.parametrize("machine", ["microvm", "microvm,mem-share=on"])
def test_the_host_asks_for_memory_gets_it_and_gives_it_back(start_vmm, machine):
    vmm = start_vmm(*DEVICE, kernel=guest("virtio_balloon"), append="follow=2", machine=machine)
    vmm.wait_for("follows\n")
    assert vmm.qmp.command("query-balloon") == {"actual": RAM}
    vmm.qmp.events.clear()
    before = guest_ram_kib(vmm)
    vmm.qmp.command("balloon", value=RAM - SPARE * PAGE)
    vmm.wait_for(f"size={SPARE}\n")
    poll(lambda: vmm.qmp.command("query-balloon") == {"actual": RAM - SPARE * PAGE}, "the size is not what the guest said")
    poll(lambda: before - guest_ram_kib(vmm) >= 0.9 * SPARE * PAGE / 1024, f"{guest_ram_kib(vmm)} KiB are left of {before}")
    # Not more than one event in a second, and the last word in the end.
    while (event := vmm.qmp.wait_event("BALLOON_CHANGE"))["data"]["actual"] != RAM - SPARE * PAGE:
        pass
    vmm.qmp.command("balloon", value=2 * RAM)
    assert vmm.wait() == 0, vmm.stderr()
    assert "size=0\n" in vmm.text() and "interrupts=some\n" in vmm.text()
    assert event["event"] == "BALLOON_CHANGE"


def test_statistics_come_as_often_as_they_are_wanted(start_vmm):
    vmm = start_vmm(*DEVICE, kernel=guest("virtio_balloon"), append="follow=1")
    vmm.wait_for("follows\n")
    path = {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval"}
    poll(lambda: stats(vmm)["stats"]["stat-free-memory"] == 0, "the first statistics")
    assert stats(vmm)["last-update"] > 0
    assert "asked=" not in vmm.text()
    vmm.qmp.command("qom-set", **path, value=1)
    assert vmm.qmp.command("qom-get", **path) == 1
    vmm.wait_for("asked=2\n")
    poll(lambda: stats(vmm)["stats"]["stat-free-memory"] >= 2 * MIB, "statistics that are newer")
    got = stats(vmm)["stats"]
    assert got["stat-total-memory"] == 64 * MIB and got["stat-swap-in"] == -1
    vmm.qmp.command("qom-set", **path, value=0)
    vmm.qmp.command("balloon", value=RAM - MIB)
    assert vmm.wait() == 0, vmm.stderr()


def test_an_automatic_balloon_takes_half_of_what_the_guest_does_not_need(start_vmm):
    vmm = start_vmm(*DEVICE[:-1], DEVICE[-1] + ",auto-balloon=on,monitor-interval=5", kernel=guest("virtio_balloon"), append="follow=1")
    vmm.wait_for("follows\n")
    with pytest.raises(QmpError, match="sizes itself"):
        vmm.qmp.command("balloon", value=MIB)
    assert vmm.wait() == 0, vmm.stderr()
    # 2 or 3 MiB were free when the change was large enough to be made.
    assert 1 * MIB <= int(vmm.values()["size"]) * PAGE <= 2 * MIB


@pytest.mark.parametrize("packed, case", [(packed, case) for packed in ("off", "on") for case in CASES])
def test_a_hostile_driver_harms_nobody_and_the_device_recovers(start_vmm, packed, case):
    said, status, value = CASES[case]
    vmm = start_vmm(*REPORTING[:-1], REPORTING[-1] + f",packed={packed}", kernel=guest("virtio_balloon"), append=f"bad={case}")
    assert vmm.wait() == 0, vmm.stderr()
    seen = re.search(rf"bad={case} (0x[0-9a-f]+) (0x[0-9a-f]+)\n", vmm.text())
    assert seen and int(seen[2], 16) == value, vmm.text()
    assert status in (None, int(seen[1], 16)), vmm.text()
    check(vmm, reporting=True)
    errors = vmm.stderr()
    if status is not None:
        assert errors == "" if said is None else said in errors
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


def test_a_machine_is_saved_with_its_balloon_and_goes_on_with_it(start_vmm, tmp_path):
    saved = tmp_path / "saved"
    first = start_vmm(*DEVICE, kernel=guest("virtio_balloon"), append="follow=2")
    first.wait_for("follows\n")
    first.qmp.command("balloon", value=RAM - 1024 * PAGE)
    first.wait_for("size=1024\n")
    poll(lambda: first.qmp.command("query-balloon") == {"actual": RAM - 1024 * PAGE}, "the size is not what the guest said")
    first.qmp.command("stop")
    first.qmp.command("balloon", value=RAM - 512 * PAGE)  # it has not seen that
    first.qmp.command("migrate", uri=f"file:{saved}")
    while first.qmp.command("query-migrate").get("status") not in ("completed", "failed"):
        time.sleep(0.02)
    first.qmp.command("quit")
    assert first.wait() == 0

    second = start_vmm("-incoming", f"file:{saved}", *DEVICE, "-S", kernel=guest("virtio_balloon"))
    assert second.qmp.command("query-balloon") == {"actual": RAM - 1024 * PAGE}
    second.qmp.command("cont")
    assert second.wait() == 0, second.stderr()
    assert "size=512\n" in second.text() and "balloon=end" in second.text()


def test_stop_and_cont_in_the_middle_lose_no_page(start_vmm):
    vmm = start_vmm(*DEVICE, kernel=guest("virtio_balloon"), append="follow=21")
    vmm.wait_for("follows\n")
    for number in range(20):
        vmm.qmp.command("balloon", value=RAM - (1024 + number) * PAGE)
        vmm.qmp.command("stop")
        vmm.qmp.command("cont")
        vmm.wait_for(f"size={1024 + number}\n")
    vmm.qmp.command("balloon", value=RAM)
    assert vmm.wait() == 0, vmm.stderr()


def test_a_guest_that_resets_finds_the_device_as_new(start_vmm):
    vmm = start_vmm(*DEVICE, "-action", "reboot=reset", kernel=guest("virtio_balloon"), append="end=reset")
    vmm.wait_for(r"(?s)(balloon=end.*){3}")
    poll(lambda: vmm.process.poll() is None and "actual" in vmm.qmp.command("query-balloon"), "it lives")


def test_without_a_balloon_qmp_says_so(start_vmm):
    vmm = start_vmm("-S", kernel=guest("virtio_balloon"))
    for command in (("query-balloon", {}), ("balloon", {"value": MIB})):
        with pytest.raises(QmpError, match="DeviceNotActive: No balloon device has been activated"):
            vmm.qmp.request(*command)


@pytest.mark.parametrize("options, message", [
    ((*DEVICE, "-device", "virtio-balloon-device,id=other"), "-device other: there is a balloon already, 'balloon0': one is all"),
    (("-device", "virtio-balloon-device,id=b,membuf-percent=19"), "membuf-percent=19"),
    (("-device", "virtio-balloon-device,id=b,monitor-interval=301"), "monitor-interval=301"),
    (("-device", "virtio-balloon-device,id=b,deflate-on-oom=perhaps"), "deflate-on-oom=perhaps"),
])
def test_a_wrong_option_is_named(start_vmm, options, message):
    vmm = start_vmm(*options, kernel=guest("virtio_balloon"))
    assert vmm.wait() == 1
    assert message in vmm.stderr()
