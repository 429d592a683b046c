"""The device trees that src/boot writes, read by dtc: no warning, and the same tree when compiled again."""

import re
import subprocess

import pytest

PLATFORMS = ["gicv3", "gicv2", "largest"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory, dump):
    return dump("FdtWriterTest.DumpForDtcWhenAsked", "STRATO_DUMP_FDT", tmp_path_factory.mktemp("fdt"))


def dtc(directory, *args):
    done = subprocess.run(["dtc", *args], cwd=directory, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
def test_dtc_reads_the_tree_without_a_warning(trees, platform):
    status, text, complaints = dtc(trees, "-I", "dtb", "-O", "dts", f"{platform}.dtb")
    assert (status, complaints) == (0, "")
    assert 'compatible = "linux,dummy-virt";' in text


@pytest.mark.parametrize("platform", PLATFORMS)
def test_compiling_what_dtc_read_gives_the_same_tree(trees, platform):
    _, source, _ = dtc(trees, "-I", "dtb", "-O", "dts", f"{platform}.dtb")
    (trees / f"{platform}.dts").write_text(source)
    # A source would write references where ours has the numbers that they become.
    status, _, complaints = dtc(trees, "-W", "no-clocks_property", "-I", "dts", "-O", "dtb", "-o", f"again-{platform}.dtb",
                                f"{platform}.dts")
    assert (status, complaints) == (0, "")
    assert dtc(trees, "-I", "dtb", "-O", "dts", f"again-{platform}.dtb")[1] == source


def test_each_handle_is_that_of_a_node(trees):
    _, source, _ = dtc(trees, "-I", "dtb", "-O", "dts", "largest.dtb")
    handles = re.findall(r"\bphandle = <(0x[0-9a-f]+)>", source)
    assert len(handles) == len(set(handles)) == 254 + 3
    assert set(re.findall(r"\bcpu = <(0x[0-9a-f]+)>", source)) <= set(handles)


def test_a_wrong_tree_would_be_seen(trees):
    _, source, _ = dtc(trees, "-I", "dtb", "-O", "dts", "gicv3.dtb")
    (trees / "bad.dts").write_text(source.replace("pl031@9010000", "pl031@9020000"))
    assert "pl031@9020000" in dtc(trees, "-I", "dts", "-O", "dtb", "-o", "bad.dtb", "bad.dts")[2]
