"""Debian's kernels reach userspace, see the machine that was asked for, and complain about nothing but what they always do."""
import json
import re
import shutil
import subprocess

import pytest
from boards import BOARD
from runs import FIRST, RUNS
from vmm import architecture

MIB = 1024  # KiB
# What the same kernels say at level "warning" and above under `qemu-system-x86_64 -M microvm`; test_peer.py measures it again.
BASELINE = [
    r"PCI: Fatal: No config space access function found",  # there is no PCI,
    r"PCI: System does not support PCI",  # in 6.1 and 6.12
    r"amd_pstate: the _CPC object is not present in SBIOS or ACPI disabled",  # 6.12 on AMD
    r"ACPI: MPS support code is not built-in, using acpi=off or acpi=noirq or pci=noacpi may have problem",  # without ACPI
    r"smpboot: weird, boot CPU \(#0\) not listed by the BIOS",
    r"PMU not available due to virtualization, using software events only\.",
    r"ACPI BIOS Error \(bug\): A valid RSDP was not found \(\d+/tbxfroot-\d+\)",
]
# What they say when the host did not run them for a while.
BUSY_HOST = [r"hrtimer: interrupt took \d+ ns", r"clocksource: Long readout interval, skipping watchdog check: .*"]
COMPLAINT = re.compile(r"warning|error|invalid|incorrect|remark|unexpected|could not", re.IGNORECASE)


def run(name):
    return pytest.param(name, marks=pytest.mark.run(name), id=name)


def those(condition=lambda it: True):
    """The runs that print a report and are of a kind."""
    return [run(name) for name, it in RUNS.items() if it.reports and condition(it)]


@pytest.fixture
def report(run):
    run.check()
    return run.report


@pytest.mark.parametrize("name", those())
def test_it_reaches_userspace_and_ends_in_order(name, report, run):
    assert report["modules_failed"] == ""
    assert run.errors == ""


@pytest.mark.parametrize("name", those())
def test_it_complains_about_nothing_that_qemu_does_not_give_too(name, report):
    new = [line for line in report.complaints() if not any(re.fullmatch(known, line) for known in BASELINE + BUSY_HOST)]
    assert not new, "\n".join(new)


@pytest.mark.parametrize("name", those())
def test_time_comes_from_the_clock_for_guests(name, report):
    assert report["clocksource"] == BOARD.clock


@pytest.mark.parametrize("name", those())
def test_the_kernel_is_the_one_given(name, report):
    version = {"cloud": r"6\.1\.", "backports": r"6\.12\."}[RUNS[name].flavour]
    assert re.match(rf"Linux {version}.* {architecture()}$", report["uname"])


@pytest.mark.parametrize("name", those())
def test_all_processors_are_up(name, report):
    assert int(report["nproc"]) == RUNS[name].processors


@pytest.mark.parametrize("name", those())
def test_memory_is_what_was_given_less_what_the_kernel_keeps(name, report):
    kib = int(RUNS[name].memory[:-1]) * {"M": MIB, "G": 1024 * MIB}[RUNS[name].memory[-1]]
    # The kernel itself, the initramfs, and for each page a structure of 1.6 % of it and more.
    assert kib - 40 * MIB - kib // 32 < int(report["MemTotal"]) < kib


@pytest.mark.parametrize("name", those(lambda it: it.acpi))
def test_the_kernel_found_our_acpi_tables(name, report):
    assert {"APIC", "DSDT", "FACP"} <= set(report["acpi"].split())


@pytest.mark.parametrize("name", those(lambda it: not it.acpi))
def test_without_acpi_there_are_no_tables(name, report):
    assert report["acpi"] == ""


@pytest.mark.run(FIRST)
def test_arguments_of_init_stay_behind_ours(report):
    assert re.search(r" -- word=of-init$", report["cmdline"]), report["cmdline"]
    assert "virtio_mmio" not in report["cmdline"].partition(" -- ")[2]


@pytest.mark.run(FIRST)
def test_the_boot_timeline_goes_from_the_command_line_to_the_first_program(run):
    stages = json.loads(re.search(r'^\{"unit".*', run.output, re.M | re.S)[0])["stages"]
    names = [stage["name"] for stage in stages]
    times = [stage["us"] for stage in stages]
    assert names[-1] == "userspace" and {"kvm", "memory", "kernel_loaded", "devices", "first_run"} < set(names), names
    assert times == sorted(times) and times[0] >= 0


@pytest.mark.parametrize("name", those(lambda it: BOARD.moves_kernel))
def test_the_kernel_lies_elsewhere_at_each_boot(name, report, all_runs):
    places = [done.result().report["text"] for other, done in all_runs.items() if RUNS[other].reports]
    assert int(report["text"], 16) != 0
    assert len(places) > 1 and places.count(report["text"]) == 1, places


@pytest.mark.parametrize("name", those(lambda it: architecture() == "aarch64"))
def test_the_clock_chip_has_the_time_of_the_host(name, run):
    driver, seconds = run.report["rtc"].split()[0], int(run.report["rtc"].split()[-1])
    assert driver == "rtc-pl031"
    # The host of the guest is perhaps a bed, which has set its clock when it started; a wrong chip is off by years.
    assert abs(seconds - run.began) < 24 * 3600


@pytest.mark.run("topology")
def test_lscpu_shows_the_topology_asked_for(report):
    lscpu = report.lscpu()
    assert lscpu["CPU(s)"] == "8"
    assert lscpu["On-line CPU(s) list"] == "0-7"
    assert lscpu["Thread(s) per core"] == "2"
    assert lscpu["Core(s) per socket"] == "2"
    assert lscpu["Socket(s)"] == "2"
    assert lscpu["Hypervisor vendor"] == "KVM"


@pytest.mark.run("18 processors")
def test_lscpu_shows_the_processors_asked_for(report):
    lscpu = report.lscpu()
    assert lscpu["Architecture"] == "aarch64"
    assert lscpu["CPU(s)"] == "18"
    assert lscpu["On-line CPU(s) list"] == "0-17"
    assert lscpu["Thread(s) per core"] == "1"


@pytest.mark.parametrize("name", [run("18 processors"), run("GICv2")])
def test_each_processor_takes_its_timer_interrupts_and_the_devices_have_theirs(name, run):
    run.check()
    processors = RUNS[name].processors
    chip = "GIC-0" if name == "GICv2" else "GICv3"
    rows = {}  # by the last word: number of the line, counts, chip and its number
    for line in re.findall(r"^interrupts= *(\w+: .*)$", run.output, re.M):
        words = line.split()
        rows[words[-1]] = (words[0], [int(word) for word in words[1:processors + 1]], words[processors + 1:])
    timer = rows["arch_timer"]
    assert all(timer[1]), timer
    assert timer[2][:3] == [chip, "27", "Level"]
    assert rows["uart-pl011"][2][:3] == [chip, "33", "Level"]
    assert rows["rtc-pl031"][2][:3] == [chip, "34", "Level"]
    assert re.search(r"^interrupts=Err: +0$", run.output, re.M), "spurious ones"


@pytest.mark.run("topology")
def test_the_kernels_own_view_of_the_topology_agrees(report):
    cpus = [report[f"cpu{n}"] for n in range(8)]
    packages = [re.search(r"package:(\d+)", cpu)[1] for cpu in cpus]
    siblings = [re.search(r"siblings:(\S+)", cpu)[1] for cpu in cpus]
    assert packages == ["0"] * 4 + ["1"] * 4
    assert siblings == ["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"]


@pytest.fixture
def decoded(run, tmp_path):
    """The tables as the guest's acpidump read them, decoded by iasl: name to text."""
    assert shutil.which("iasl") and shutil.which("acpixtract")
    dump = re.search(r"STRATO-TABLES-BEGIN\n(.*)STRATO-TABLES-END\n", run.output, re.S)
    assert dump and "STRATO-RUN-EXIT=0" in run.output, run.output[-2000:]
    (tmp_path / "dump").write_text(dump[1])
    subprocess.run(["acpixtract", "-a", "dump"], cwd=tmp_path, check=True, capture_output=True)
    texts = {}
    for table in sorted(tmp_path.glob("*.dat")):
        done = subprocess.run(["iasl", "-d", table.name], cwd=tmp_path, capture_output=True, text=True)
        texts[table.stem] = done.stdout + done.stderr + table.with_suffix(".dsl").read_text()
    return texts


@pytest.mark.run("topology")
def test_iasl_reads_the_guests_tables_without_a_warning(decoded):
    assert {"apic", "dsdt", "facp"} <= set(decoded)
    for name, text in decoded.items():
        assert [line for line in text.splitlines() if COMPLAINT.search(line)] == [], name


@pytest.mark.run("topology")
def test_the_tables_name_the_processors_and_the_serial_port(decoded):
    enabled = re.findall(r"Processor Enabled : 1", decoded["apic"])
    assert len(enabled) == 8
    assert "PNP0501" in decoded["dsdt"]
    assert re.search(r"Hardware Reduced \(V5\) : 1", decoded["facp"])
