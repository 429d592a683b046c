"""What a guest's fsync promises, over the whole path: guest, virtio-blk, engine, kernel, disk."""
import os
import re
import subprocess

import pytest
from vmm import ROOT, SCALE

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 900


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("image"))
    subprocess.run([os.path.join(ROOT, "tools", "guest-image"), "--kernel", "cloud", "--modules", "virtio_mmio,virtio_blk,ext4",
                    "--files", f"{HERE}/durable.sh:durable.sh", "--out", folder], check=True, stderr=subprocess.DEVNULL)
    return folder


@pytest.mark.parametrize("drive", ["direct=on,aio=io_uring", pytest.param("direct=off,aio=threads", marks=pytest.mark.long)])
def test_what_the_guest_synced_survives_a_power_cut_at_any_flush(bed, image, drive):
    done = subprocess.run([os.path.join(ROOT, "tools", "with-kvm"), "--timeout", str(int(LIMIT * SCALE)), "/usr/bin/python3", "-B",
                           os.path.join(HERE, "durability.py"), image, drive],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * LIMIT * SCALE)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert re.search(r"\d+ flushes, 12 power cuts: nothing lost", done.stdout)
