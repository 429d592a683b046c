"""report: what a guest finds in memory map, command line, initrd, processor, tables and devicetree."""
import json
import os
import re
import time

import pytest
from vmm import architecture, forms, gic_version, guest, only_on, run_to_end

X86 = only_on("x86_64", "CPUID, ACPI and MP tables of a PC")
ARM = only_on("aarch64", "a devicetree describes the machine")

MIB = 1 << 20
GIB = 1 << 30
RAM = 1


def report(start_vmm, *extra, kernel="report", **options):
    vmm = run_to_end(start_vmm, *extra, kernel=guest(kernel), **options)
    values = vmm.values()
    assert values.get("report") == "end", vmm.text()
    return values


def memory_map(values):
    ranges = []
    while f"memmap.{len(ranges)}" in values:
        start, size, kind = values[f"memmap.{len(ranges)}"].split()
        ranges.append((int(start, 16), int(size, 16), int(kind)))
    return ranges


def registers(values, leaf, subleaf=0):
    """EAX, EBX, ECX, EDX of a CPUID leaf."""
    return [int(word, 16) for word in values[f"cpuid.{leaf:#x}.{subleaf}"].split()]


def tables(values):
    """ACPI signature -> (length, checksum ok)."""
    found = {}
    for key, value in values.items():
        if key.startswith("acpi."):
            match = re.fullmatch(r"0x[0-9a-f]+ length (\d+) checksum (ok|bad)", value)
            found[key[len("acpi."):]] = (int(match[1]), match[2] == "ok")
    return found


def madt(values):
    return [value for key, value in values.items() if key.startswith("madt.")]


@pytest.mark.parametrize("kernel", forms("report"))
def test_each_kernel_format_has_its_entry_and_the_same_boot_information(start_vmm, kernel):
    entry = ("pvh" if kernel == "report" else "64bit") if architecture() == "x86_64" else "image"
    values = report(start_vmm, kernel=kernel, append="one two=2", memory_mib=64)
    assert values["entry"] == entry
    assert values["cmdline"].split()[:2] == ["one", "two=2"]
    assert sum(size for _, size, kind in memory_map(values) if kind == RAM) > 62 * MIB
    assert architecture() != "x86_64" or tables(values)["APIC"][1]


@X86
@pytest.mark.parametrize("kernel", ["report", "report64"])
@pytest.mark.parametrize("memory_mib", [32, 128, 3072, 3073, 5120])
def test_the_memory_map_is_sorted_complete_and_its_ram_is_memory(start_vmm, kernel, memory_mib):
    values = report(start_vmm, kernel=kernel, memory_mib=memory_mib)
    ranges = memory_map(values)
    for (start, size, _), (next_start, _, _) in zip(ranges, ranges[1:]):
        assert start + size <= next_start
    ram = [(start, start + size) for start, size, kind in ranges if kind == RAM]
    assert ram[0][0] == 0
    size = memory_mib * MIB
    low_end = min(size, 3 * GIB)
    assert max(end for _, end in ram if end <= 4 * GIB) == low_end
    above = [(start, end) for start, end in ram if start >= 4 * GIB]
    assert above == ([(4 * GIB, 4 * GIB + size - low_end)] if size > low_end else [])
    assert size - MIB <= sum(end - start for start, end in ram) <= size  # holes only below 1 MiB
    probes = [value for key, value in values.items() if key.startswith("probe.")]
    assert probes == ["ok"] * len(ram)


@ARM
@pytest.mark.parametrize("memory_mib", [32, 128, 3073, 5120])
def test_ram_is_one_range_from_1_gib_on(start_vmm, memory_mib):
    values = report(start_vmm, memory_mib=memory_mib)
    assert memory_map(values) == [(GIB, memory_mib * MIB, RAM)]
    assert values["probe.0"] == "ok"


def test_without_append_the_command_line_is_empty(start_vmm):
    assert report(start_vmm)["cmdline"].strip() == ""


def test_a_command_line_of_2000_characters_arrives_whole(start_vmm):
    words = " ".join(f"word{i:04}" for i in range(222))
    assert report(start_vmm, append=words)["cmdline"].startswith(words)


@pytest.mark.parametrize("kernel", forms("report"))
@pytest.mark.parametrize("size", [1, 4096, 65537, MIB + 13])
def test_an_initrd_arrives_byte_for_byte(start_vmm, tmp_path, kernel, size):
    data = os.urandom(size)
    path = tmp_path / "initrd"
    path.write_bytes(data)
    values = report(start_vmm, kernel=kernel, initrd=str(path), memory_mib=64)
    words = data + bytes(-size % 8)
    expected = sum(int.from_bytes(words[i:i + 8], "little") for i in range(0, len(words), 8)) % (1 << 64)
    assert int(values["initrd.size"]) == size
    assert int(values["initrd.sum"], 16) == expected
    address = int(values["initrd.address"], 16)
    assert address % 4096 == 0
    assert any(start <= address and address + size <= start + length for start, length, kind in memory_map(values) if kind == RAM)


@X86
def test_the_cpu_says_that_it_is_virtual_and_has_the_timers_linux_wants(start_vmm):
    values = report(start_vmm)
    ecx = registers(values, 1)[2]
    assert values["hypervisor"] == "yes"
    assert values["hypervisor.signature"] == "KVMKVMKVM"
    assert ecx >> 24 & 1, "TSC deadline"
    assert ecx >> 21 & 1, "x2APIC"
    assert registers(values, 0x40000001)[0] >> 3 & 1, "kvm-clock"


@X86
@pytest.mark.parametrize("smp, threads, per_package", [
    ("1", 1, 1),
    ("2", 1, 2),
    ("8,sockets=2,cores=2,threads=2", 2, 4),
    ("6,sockets=1,cores=3,threads=2", 2, 6),
    ("4,sockets=4,cores=1,threads=1", 1, 1),
])
def test_cpuid_shows_the_topology_that_was_asked_for(start_vmm, smp, threads, per_package):
    values = report(start_vmm, smp=smp)
    multithreading = registers(values, 1)[3] >> 28 & 1  # without it EBX says nothing
    assert (registers(values, 1)[1] >> 16 & 0xff if multithreading else 1) == per_package
    assert registers(values, 0xb, 0)[1] & 0xffff == threads
    assert registers(values, 0xb, 1)[1] & 0xffff == per_package
    assert registers(values, 0xb, 0)[2] >> 8 == 1  # level type: SMT
    assert registers(values, 0xb, 1)[2] >> 8 == 2  # level type: core
    package_bits = registers(values, 0xb, 1)[0]
    assert 1 << package_bits >= per_package
    assert registers(values, 0xb, 0)[3] == int(values["apic.id"])


@X86
@pytest.mark.parametrize("smp, threads, cores", [("1", 1, 1), ("8,sockets=2,cores=2,threads=2", 2, 2), ("6,sockets=1,cores=3,threads=2", 2, 3)])
def test_the_vendors_own_leaves_show_the_same_topology(start_vmm, smp, threads, cores):
    values = report(start_vmm, smp=smp)
    if values["cpu.vendor"] == "GenuineIntel":
        sharing = [((eax >> 14 & 0xfff) + 1, eax >> 5 & 7) for eax in
                   (registers(values, 4, i)[0] for i in range(8) if f"cpuid.0x4.{i}" in values) if eax & 0x1f]
        assert registers(values, 4, 0)[0] >> 26 >= cores - 1
    else:
        assert values["cpu.vendor"] in ("AuthenticAMD", "HygonGenuine")
        assert registers(values, 0x80000008)[2] & 0xff == threads * cores - 1
        assert (registers(values, 0x8000001e)[1] >> 8 & 0xff) + 1 == threads
        sharing = [((eax >> 14 & 0xfff) + 1, eax >> 5 & 7) for eax in
                   (registers(values, 0x8000001d, i)[0] for i in range(8) if f"cpuid.0x8000001d.{i}" in values) if eax & 0x1f]
    for processors, level in sharing:
        assert threads <= processors if level < 3 else processors >= threads * cores


@X86
def test_acpi_tables_are_found_and_their_checksums_are_right(start_vmm):
    values = report(start_vmm, smp=3)
    assert re.search(r"revision 2 checksum ok$", values["rsdp"])
    found = tables(values)
    assert {"XSDT", "FACP", "DSDT", "APIC"} <= set(found)
    assert all(good for _, good in found.values()), found
    assert found["FACP"][0] in (268, 276)
    processors = [entry for entry in madt(values) if entry.startswith(("lapic", "x2apic"))]
    assert len(processors) == 3
    assert all(entry.endswith("flags 0x1") for entry in processors)
    assert [entry for entry in madt(values) if entry.startswith("ioapic")] == [
        next(entry for entry in madt(values) if re.fullmatch(r"ioapic id \d+ address 0xfec00000 gsi 0", entry))]


@X86
@pytest.mark.parametrize("machine", ["microvm", "microvm,acpi=off"])
def test_the_mp_table_is_always_there(start_vmm, machine):
    values = report(start_vmm, machine=machine, smp=2)
    assert values["mp.pointer"].endswith("checksum ok")
    match = re.search(r"checksum ok entries (\d+)$", values["mp.table"])
    assert int(match[1]) >= 2 + 1 + 1  # processors, a bus, an IOAPIC


def test_the_boot_timeline_has_the_stages_of_host_and_guest(start_vmm, tmp_path):
    path = tmp_path / "timeline.json"
    report(start_vmm, "-boot-timeline", str(path))
    stages = [(stage["name"], stage["us"]) for stage in json.loads(path.read_text())["stages"]]
    assert {"parsed", "kvm", "memory", "kernel_loaded", "devices", "first_run", "kernel_entry", "userspace"} <= dict(stages).keys()
    assert [us for _, us in stages] == sorted(us for _, us in stages)
    assert [name for name, _ in stages][-2:] == ["kernel_entry", "userspace"]


@X86
def test_acpi_off_hides_the_tables(start_vmm):
    values = report(start_vmm, machine="microvm,acpi=off")
    assert values["rsdp"] == "none"
    assert not tables(values)


@ARM
def test_the_devicetree_describes_the_board(start_vmm):
    values = report(start_vmm, "-object", "rng-random,id=r,filename=/dev/urandom", "-device", "virtio-rng-device,rng=r,id=d", smp=2)
    assert values["fdt.cpus"] == "2"
    assert re.fullmatch(r"hvc 0x1000[0-9a-f]", values["psci"])  # 1.0 or later
    assert values["gic.distributor"] == "0x8000000"
    if gic_version() == "3":
        assert values["its"] == "yes 0x8080000"
        assert values["gic.redistributor.0"].startswith("0x80a0000 ")
    else:
        assert values["its"] == "no 0x0"
    assert values["uart"].startswith("0x9000000 ")
    assert values["rtc"].startswith("0x9010000 ")
    assert re.fullmatch(r"0xa000000 \d+ edge 4", values["virtio.0"])


@ARM
def test_the_clock_chip_has_the_time_of_the_host(start_vmm):
    before = int(time.time())
    seconds = int(report(start_vmm)["rtc"].split()[2])
    assert before <= seconds <= int(time.time()) + 1


@ARM
def test_the_virtual_timer_the_second_processor_and_absent_devices_answer(start_vmm):
    values = report(start_vmm, smp=2)
    assert (values["timer.interrupt"], values["timer.ticks"]) == ("27", "3")
    assert values["mpidr"] == "0x0"
    assert values["second"] == "runs 0x1"
    assert values["mmio.absent"] == "0xffffffff"


@ARM
def test_the_seeds_are_fresh_at_each_start(start_vmm):
    seeds = {values[key] for values in (report(start_vmm) for _ in range(2)) for key in ("seed.kaslr", "seed.rng")}
    assert len(seeds) == 4 and "0x0" not in seeds
