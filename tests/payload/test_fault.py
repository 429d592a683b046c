"""fault: addresses that nobody answers read as ones, swallow writes, and harm nobody."""
import pytest
from vmm import architecture, guest, run_to_end

X86_64 = {
    "pio.in8": 0xff,
    "pio.in16": 0xffff,
    "pio.in32": 0xffffffff,
    "pio.in16.unaligned": 0xffff,
    "pio.in32.unaligned": 0xffffffff,
    "pio.in32.last": 0xffffffff,
    "pio.in8.last": 0xff,
    "pio.insb": 0xffffffffffffffff,
    "pio.insl": 0xffffffffffffffff,
    "mmio.read8": 0xff,
    "mmio.read16": 0xffff,
    "mmio.read32": 0xffffffff,
    "mmio.read64": 0xffffffffffffffff,
    "mmio.read16.unaligned": 0xffff,
    "mmio.read32.unaligned": 0xffffffff,
    "mmio.read64.unaligned": 0xffffffffffffffff,
    "mmio.read64.across_pages": 0xffffffffffffffff,
    "mmio.movsb": 0xffffffffffffffff,
    "mmio.xchg": 0xffffffff,
    "ram.read32.past_end": 0xffffffff,
    "ram.read64.across_end": 0xffffffff2468ace0,
    "ram.read32.before_end": 0x22222222,
}
AARCH64 = {
    "mmio.write8": 0,
    "mmio.write16": 0,
    "mmio.write32": 0,
    "mmio.write64": 0,
    "mmio.read8": 0xff,
    "mmio.read16": 0xffff,
    "mmio.read32": 0xffffffff,
    "mmio.read64": 0xffffffffffffffff,
    "mmio.write32.unaligned": 0,
    "mmio.read16.unaligned": 0xffff,
    "mmio.read32.unaligned": 0xffffffff,
    "mmio.read64.unaligned": 0xffffffffffffffff,
    "ram.read32.past_end": 0xffffffff,
    "ram.write32.past_end": 0,
    "ram.read32.before_end": 0x22222222,
}
EXPECTED = {"x86_64": X86_64, "aarch64": AARCH64}[architecture()]
# What else it gets past: string instructions; the processor's own alignment fault, which an emulated one may not know.
ALSO = {"x86_64": {"pio.outs": {"done"}, "mmio.or": {"done"}},
        "aarch64": {"mmio.device_unaligned": {"abort 0x96000021", "0xffffffff"}}}[architecture()]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    from vmm import Vmm
    vmm = Vmm(str(tmp_path_factory.mktemp("fault")), kernel=guest("fault"), memory_mib=64, qmp=False)
    try:
        assert vmm.wait() == 0, vmm.stderr()
        yield vmm.values()
    finally:
        vmm.close()


@pytest.mark.parametrize("case", EXPECTED)
def test_absent_addresses_read_as_ones(results, case):
    assert int(results[case], 16) == EXPECTED[case]


def test_the_guest_reaches_its_end(results):
    assert all(results[key] in expected for key, expected in ALSO.items())
    assert results["fault"] == "end"


def test_absent_accesses_do_not_flood_the_log(start_vmm):
    vmm = run_to_end(start_vmm, kernel=guest("fault"))
    assert len(vmm.stderr()) < 4096
