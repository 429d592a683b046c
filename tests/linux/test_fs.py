"""A directory of the host in a Linux guest, served by QEMU's virtiofsd; what is done with it is in shares.py."""
import os
import subprocess

import pytest
from runs import compile_program, make_image, script
from vmm import ROOT


@pytest.fixture(scope="module")
def share_image(bed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("share")
    subprocess.run([os.path.join(ROOT, "tools", "packages"), "fs"], check=True)
    program = compile_program("posix", folder)
    make_image(folder, "--modules", "virtio_mmio,virtiofs", "--files", f"{program}:posix")
    return str(folder)


@pytest.mark.long("aarch64")
def test_a_mounted_directory_does_what_posix_says(share_image):
    assert "checks, 1 fail" in script("shares.py", "posix", share_image)


@pytest.mark.long("aarch64")
def test_a_back_end_that_is_killed_under_load_takes_nobody_with_it(share_image):
    assert "ended twice, mounted twice" in script("shares.py", "death", share_image)
