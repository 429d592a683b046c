"""flood and echo: the serial port under load, in both directions."""
import os
import subprocess
import time

import pytest
from vmm import guest, run_to_end

ALLOWED_GROWTH_KIB = 1024


def flood_bytes(size):
    return b"".join(b"%08d%s\n" % (i, b"." * 55) for i in range(-(-size // 64)))[:size]


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_polled_output_arrives_byte_for_byte(start_vmm):
    size = 100_000
    vmm = run_to_end(start_vmm, kernel=guest("flood"), append=f"mode=polled bytes={size}")
    assert vmm.bytes().replace(b"\r\n", b"\n") == flood_bytes(size) + b"flood=end\n"


def test_string_output_to_a_reader_arrives_byte_for_byte(start_vmm):
    size = 64 * 1024
    vmm = run_to_end(start_vmm, kernel=guest("flood"), append=f"bytes={size}")
    assert vmm.bytes() == flood_bytes(size) + b"flood=end\n"


def test_output_to_a_file_is_complete(start_vmm, tmp_path):
    log = tmp_path / "serial.log"
    run_to_end(start_vmm, kernel=guest("flood"), append=f"bytes={256 * 1024}", serial=f"file,path={log}")
    assert log.read_bytes() == flood_bytes(256 * 1024) + b"flood=end\n"


def test_a_flood_that_nobody_reads_neither_stops_the_guest_nor_grows_us(start_vmm):
    vmm = start_vmm(kernel=guest("flood"), append="repeat", memory_mib=64, read_output=False)
    for _ in range(600):  # until the pipe is full and all code has run once
        if cpu_ticks(vmm.pid) > 20:
            break
        time.sleep(0.05)
    before = vmm.memory_kib("Pss", outside=32 * 1024)
    busy_before = cpu_ticks(vmm.pid)
    time.sleep(2)
    assert vmm.process.poll() is None
    assert vmm.memory_kib("Pss", outside=32 * 1024) - before <= ALLOWED_GROWTH_KIB
    assert cpu_ticks(vmm.pid) > busy_before, "the guest no longer runs"
    assert vmm.qmp.command("query-status")["status"] == "running"


@pytest.mark.parametrize("where", ["/dev/full", "closed pipe", "/dev/null"])
def test_output_that_can_not_be_written_harms_nobody(start_vmm, where):
    if where == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(where, os.O_WRONLY)
    vmm = start_vmm(kernel=guest("flood"), append="bytes=65536", stdout=writer)
    os.close(writer)
    assert vmm.wait() == 0, vmm.stderr()
    assert len(vmm.stderr()) < 4096


def test_echo_by_interrupts_until_end_of_input(start_vmm):
    vmm = start_vmm(kernel=guest("flood"), append="echo")
    vmm.wait_for("echo=ready\n")
    vmm.write(b"hello\n")
    vmm.wait_for("echo=ready\nhello\n")
    vmm.write(b"\x04")
    assert vmm.wait() == 0
    assert vmm.text() == "echo=ready\nhello\necho=end\n"


def test_echo_of_more_than_the_fifo_holds_loses_nothing(start_vmm):
    data = bytes(0x20 + i % 95 for i in range(4000))
    vmm = start_vmm(kernel=guest("flood"), append="echo")
    vmm.wait_for("echo=ready\n")
    vmm.write(data + b"\x04")
    assert vmm.wait() == 0
    assert vmm.bytes() == b"echo=ready\n" + data + b"echo=end\n"


def test_end_of_input_on_stdin_leaves_the_guest_alone(start_vmm):
    vmm = start_vmm(kernel=guest("timer"), append="period-ms=20", stdin=subprocess.DEVNULL)
    vmm.wait_for("tick=20\n")
    busy = cpu_ticks(vmm.pid)
    vmm.wait_for("tick=40\n")
    assert cpu_ticks(vmm.pid) - busy < 200, "it spins on the closed input"
