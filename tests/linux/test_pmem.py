"""A file as persistent memory of a Linux guest; what is done with it is in pmem.py."""
import os
import subprocess

import pytest
from runs import ROOT, make_image, script


@pytest.fixture(scope="module")
def pmem_image(bed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pmem")
    subprocess.run([os.path.join(ROOT, "tools", "packages"), "block"], check=True)
    make_image(folder, "--modules", "virtio_mmio,virtio_pmem,nd_pmem,ext4", "--disk-with", "lscpu")
    return str(folder)


@pytest.mark.long("aarch64")  # there a guest with a read-only one stood still twice, and ten others did not: the cause is not known
def test_pmem_root_boots(pmem_image):
    assert "3 roots" in script("pmem.py", "roots", pmem_image)


def test_what_the_guest_has_synchronised_is_in_the_file(pmem_image):
    assert "it lasts" in script("pmem.py", "lasting", pmem_image)


@pytest.mark.long("aarch64")
def test_a_file_that_is_cut_short_ends_the_vm_and_is_named(pmem_image):
    assert "ended and named" in script("pmem.py", "cut", pmem_image)
