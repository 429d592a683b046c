"""What a guest's fsync promises, over the whole path: guest, virtio-blk, engine, kernel, disk."""
import re

import pytest
from runs import script


@pytest.mark.long("aarch64")
@pytest.mark.parametrize("drive", ["direct=on,aio=io_uring", pytest.param("direct=off,aio=threads", marks=pytest.mark.long)])
def test_what_the_guest_synced_survives_a_power_cut_at_any_flush(virtio_image, drive):
    assert re.search(r"\d+ flushes, 12 power cuts: nothing lost", script("durability.py", virtio_image, drive))
