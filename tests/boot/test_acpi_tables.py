"""The ACPI tables that src/boot writes, read by ACPICA's own tools: no warning, and the same bytes when compiled again."""

import re
import subprocess

import pytest

PC = ["DSDT", "FACP", "APIC"]
TABLES = {"small": PC, "events": PC, "largest": PC, "gicv3": [*PC, "GTDT", "SPCR", "IORT"], "gicv2": [*PC, "GTDT", "SPCR"],
          "largest-arm": [*PC, "GTDT", "SPCR", "IORT"]}
COMPLAINT = re.compile(r"warning|error|invalid|incorrect|remark|unexpected|could not", re.IGNORECASE)
HEADER_BYTES = 36  # holds checksum and compiler, which differ after a compilation


@pytest.fixture(scope="module")
def tables(tmp_path_factory, dump):
    return dump("AcpiTablesTest.DumpForIaslWhenAsked", "STRATO_DUMP_ACPI", tmp_path_factory.mktemp("acpi"))


def iasl(directory, *args):
    done = subprocess.run(["iasl", *args], cwd=directory, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def complaints(text):
    # The summary of a compilation counts what there was none of.
    lines = [line for line in text.splitlines() if not line.startswith("Compilation successful. 0 Errors, 0 Warnings")]
    return [line for line in lines if COMPLAINT.search(line)]


@pytest.mark.parametrize("platform,signature", [(p, s) for p, tables in TABLES.items() for s in [*tables, "XSDT"]])
def test_iasl_reads_the_table_without_a_warning(tables, platform, signature):
    status, text = iasl(tables, "-d", f"{platform}.{signature}.dat")
    assert status == 0, text
    assert complaints(text) == []
    assert complaints((tables / f"{platform}.{signature}.dsl").read_text()) == []


@pytest.mark.parametrize("platform,signature", [(p, s) for p, tables in TABLES.items() for s in tables])
def test_compiling_what_iasl_read_gives_the_same_bytes(tables, platform, signature):
    iasl(tables, "-d", f"{platform}.{signature}.dat")
    status, text = iasl(tables, "-p", f"again-{platform}-{signature}", f"{platform}.{signature}.dsl")
    assert status == 0, text
    assert complaints(text) == []
    ours = (tables / f"{platform}.{signature}.dat").read_bytes()
    again = (tables / f"again-{platform}-{signature}.aml").read_bytes()
    assert again[HEADER_BYTES:] == ours[HEADER_BYTES:]
    assert len(again) == len(ours)


def test_a_wrong_checksum_would_be_seen(tables):
    bad = bytearray((tables / "small.FACP.dat").read_bytes())
    bad[112] ^= 1
    (tables / "bad.FACP.dat").write_bytes(bad)
    assert complaints(iasl(tables, "-d", "bad.FACP.dat")[1]) != []
