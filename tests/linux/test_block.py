"""Disks of a Linux guest on virtio-blk; what is done with them is in block.py."""
import os
import re
import subprocess

import pytest
from vmm import ROOT, SCALE

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 900
SCRIPTS = ("fio_verify.sh", "disk_changes.sh", "fill.sh", "steady.sh", "durable.sh")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("image"))
    subprocess.run([os.path.join(ROOT, "tools", "packages"), "block"], check=True)
    subprocess.run([os.path.join(ROOT, "tools", "guest-image"), "--modules", "virtio_mmio,virtio_blk,ext4,squashfs", "--disk-with", "fio",
                    "--files", *(f"{HERE}/{name}:{name}" for name in SCRIPTS), "--out", folder], check=True, stderr=subprocess.DEVNULL)
    return folder


def scenario(name, image):
    done = subprocess.run([os.path.join(ROOT, "tools", "with-kvm"), "--timeout", str(int(LIMIT * SCALE)), "/usr/bin/python3", "-B",
                           os.path.join(HERE, "block.py"), name, image],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * LIMIT * SCALE)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_fio_verifies_every_engine_with_and_without_o_direct_and_with_more_queues(bed, image):
    assert "10 disks verified" in scenario("verify", image)


def test_the_root_may_be_ext4_a_partition_or_squashfs(bed, image):
    assert "3 roots" in scenario("roots", image)


def test_a_discard_gives_blocks_back_and_a_new_size_is_seen(bed, image):
    scenario("changes", image)


def test_no_space_on_the_host_stops_the_guest_and_nothing_is_lost(bed, image):
    scenario("no_space", image)


def test_a_limit_is_kept_and_used(bed, image):
    assert re.search(r"0\.[789]\d|1\.\d\d", scenario("limits", image))


def test_kill_minus_nine_leaves_the_image_whole_and_free(bed, image):
    scenario("killed", image)
