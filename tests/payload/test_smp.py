"""smp: every processor that the tables list starts, by INIT-SIPI-SIPI or by CPU_ON."""
import re

import pytest
from vmm import architecture, gic_version, guest, need_processors, only_on, run_to_end

X86 = only_on("x86_64", "local APICs and their IDs")


def started(start_vmm, **options):
    """IDs in the order of starting, and the last line's values. On Arm each has taken one interrupt of each kind by then."""
    vmm = run_to_end(start_vmm, kernel=guest(options.pop("kernel", "smp")), **options)
    summary = re.search(r"^cpus=(\d+) online=(\d+) (?:apic|gic)=(\w+)$", vmm.text(), re.M)
    assert summary, vmm.text()
    if architecture() == "x86_64":
        lines = re.findall(r"^cpu=(\d+) apic=(\d+) leaf1=(\d+) leaf11=(\d+)$", vmm.text(), re.M)
        for _, apic, leaf1, leaf11 in lines:
            assert int(leaf1) == int(apic) & 0xff
            assert leaf11 == apic
        ids = [int(line[1]) for line in lines]
    else:
        lines = re.findall(r"^cpu=(\d+) mpidr=(0x[0-9a-f]+) sgi=(\d+) timer=(\d+)$", vmm.text(), re.M)
        assert {line[2:] for line in lines} == {("1", "1")}, vmm.text()
        assert sorted(int(line[0]) for line in lines) == list(range(len(lines)))
        ids = [int(line[1], 16) for line in lines]
    return ids, int(summary[1]), int(summary[2]), summary[3]


@pytest.mark.parametrize("kernel", ["smp", pytest.param("smp64", marks=X86)])
@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_all_processors_come_online_with_ids_of_their_own(start_vmm, kernel, count):
    need_processors(count)
    ids, listed, online, controller = started(start_vmm, kernel=kernel, smp=count)
    assert (listed, online, controller) == (count, count, "xapic" if architecture() == "x86_64" else f"v{gic_version()}")
    assert len(set(ids)) == count


@X86
def test_processors_start_in_x2apic_mode_as_well(start_vmm):
    ids, listed, online, apic = started(start_vmm, smp=4, append="x2apic")
    assert (listed, online, apic) == (4, 4, "x2apic")
    assert sorted(ids) == [0, 1, 2, 3]


@X86
def test_a_topology_that_is_no_power_of_two_leaves_gaps_in_the_apic_ids(start_vmm):
    ids, listed, online, _ = started(start_vmm, smp="6,sockets=2,cores=3,threads=1")
    assert (listed, online) == (6, 6)
    assert sorted(ids) == [0, 1, 2, 4, 5, 6]  # 3 cores take 2 bits


@X86
def test_without_acpi_the_mp_table_lists_them(start_vmm):
    _, listed, online, _ = started(start_vmm, smp=4, machine="microvm,acpi=off")
    assert (listed, online) == (4, 4)


@only_on("aarch64", "123 redistributors lie in the first region")
def test_130_processors_need_a_second_region_of_redistributors(start_vmm):
    need_processors(130)
    ids, listed, online, _ = started(start_vmm, smp=130, append="wait-ms=60000", memory_mib=128)
    assert (listed, online) == (130, 130)
    assert sorted(ids) == [n // 16 << 8 | n % 16 for n in range(130)]  # KVM's: 16 in the lowest field


def test_254_processors_start(start_vmm):
    need_processors(254)
    ids, listed, online, _ = started(start_vmm, smp=254, append="wait-ms=60000", memory_mib=128)
    assert (listed, online) == (254, 254)
    assert len(set(ids)) == 254


@X86
def test_apic_ids_beyond_254_need_x2apic_and_get_it(start_vmm):
    ids, listed, online, apic = started(start_vmm, smp="135,sockets=5,dies=3,clusters=1,cores=3,threads=3", append="wait-ms=60000")
    assert (listed, online, apic) == (135, 135, "x2apic")
    assert max(ids) == 4 << 6 | 2 << 4 | 2 << 2 | 2  # each level of 3 takes 2 bits
