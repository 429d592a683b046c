"""What only an Arm machine has: accesses that KVM cannot describe, and the interrupt translation service."""
import re

import pytest
from vmm import gic_version, guest, only_on, run_to_end

pytestmark = only_on("aarch64", "instructions and interrupt controller of Arm")

RNG = ("-object", "rng-random,id=r,filename=/dev/urandom", "-device", "virtio-rng-device,rng=r,id=d")
MAGIC = 0x74726976
DATA_ABORT = 0x25
EXTERNAL, ALIGNMENT, UNSUPPORTED_EXCLUSIVE = 0x10, 0x21, 0x35
DESCRIBED = ("ldr", "ldrsw", "ldar", "str", "stlr")
NOT_DESCRIBED = ("ldp", "ldpsw", "ldnp", "ldr_post_index", "ldr_pre_index", "ldp_post_index", "ldxr", "ldaxr", "ldr_s", "ldr_q", "ldp_d", "ld1",
                 "ld1_post_index", "stp", "stnp", "str_post_index", "str_pre_index", "stp_pre_index", "stxr", "str_q", "str_s", "st1", "stp_d")
OTHERS = ("dc_zva", "dc_civac", "prfm")


@pytest.fixture(scope="module")
def accesses(tmp_path_factory):
    from vmm import Vmm
    vmm = Vmm(str(tmp_path_factory.mktemp("access")), *RNG, kernel=guest("mmio_access"), qmp=False)
    try:
        assert vmm.wait() == 0, vmm.stderr()
        yield vmm
    finally:
        vmm.close()


def outcome(vmm, name):
    """The value read, None for a write that was done, or ("abort", fault status)."""
    kind, _, value = vmm.values()[f"access.{name}"].partition(" ")
    if kind != "abort":
        return int(value, 16) if kind == "value" else None
    syndrome = int(value, 16)
    assert syndrome >> 26 == DATA_ABORT
    return "abort", syndrome & 0x3f


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_plain_access_is_served(accesses, name):
    assert outcome(accesses, name) in (MAGIC, None)


@pytest.mark.parametrize("name", NOT_DESCRIBED)
def test_an_access_without_a_syndrome_is_right_or_an_abort_of_the_guest(accesses, name):
    assert outcome(accesses, name) in (MAGIC, None, ("abort", EXTERNAL), ("abort", UNSUPPORTED_EXCLUSIVE))


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_access_of_a_register_is_the_guests_own_matter(accesses, name):
    assert outcome(accesses, name) in (None, ("abort", EXTERNAL), ("abort", ALIGNMENT))


def test_an_unaligned_access_is_the_processors_fault_or_reads_something(accesses):
    value = outcome(accesses, "ldr_unaligned")  # an emulated processor lets it through
    assert value == ("abort", ALIGNMENT) or isinstance(value, int)


def test_the_device_and_the_machine_survive_and_the_log_is_short(accesses):
    assert accesses.values()["magic"] == f"{MAGIC:#x}"
    assert accesses.values()["access"] == "end"
    errors = accesses.stderr()
    assert len(errors.splitlines()) <= 100 and len(errors) <= 16384


@pytest.mark.parametrize("device, event", [(0, 0), (300, 31), (65535, 1)])
def test_an_event_mapped_at_the_its_becomes_an_interrupt(start_vmm, device, event):
    if gic_version() == "2":
        pytest.skip("a GICv2 has no ITS")
    vmm = run_to_end(start_vmm, kernel=guest("its"), append=f"self device={device} event={event} count=3")
    ready = re.search(r"^its=ready device=(\d+) event=(\d+) lpi=(\d+) doorbell=0x8090040$", vmm.text(), re.M)
    assert ready and ready.groups() == (str(device), str(event), str(8193 + event)), vmm.text()
    assert re.findall(r"^lpi=(\d+) count=(\d+)$", vmm.text(), re.M) == [(str(8193 + event), str(n)) for n in (1, 2, 3)]
    assert vmm.values()["its"] == "end"
