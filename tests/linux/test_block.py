"""Disks of a Linux guest on virtio-blk; what is done with them is in block.py."""
import pytest
from runs import script

ARM_LONG = pytest.mark.long("aarch64")


@ARM_LONG
def test_fio_verifies_every_engine_with_and_without_o_direct_with_more_queues_and_packed_rings(virtio_image):
    assert "12 disks verified" in script("block.py", "verify", virtio_image)


def test_the_root_may_be_ext4_a_partition_or_squashfs(virtio_image):
    assert "3 roots" in script("block.py", "roots", virtio_image)


@ARM_LONG
def test_a_discard_gives_blocks_back_and_a_new_size_is_seen(virtio_image):
    script("block.py", "changes", virtio_image)


@ARM_LONG
def test_no_space_on_the_host_stops_the_guest_and_nothing_is_lost(virtio_image):
    script("block.py", "no_space", virtio_image)


@ARM_LONG
def test_a_limit_is_kept_and_used_and_may_change(virtio_image):
    assert script("block.py", "limits", virtio_image).count("of the rate") == 2


@ARM_LONG
def test_kill_minus_nine_leaves_the_image_whole_and_free(virtio_image):
    script("block.py", "killed", virtio_image)
