"""The network of a Linux guest on virtio-net; what is done with it is in network.py."""
import os
import subprocess

import pytest
from runs import compile_program, make_image, script
from vmm import ROOT


@pytest.fixture(scope="module")
def image(bed, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("network"))
    subprocess.run([os.path.join(ROOT, "tools", "packages"), "network"], check=True)
    program = compile_program("flow", folder)
    make_image(folder, "--modules", "virtio_mmio,virtio_net", "--with", "iperf3,ethtool", "--files", f"{program}:flow")
    return folder


@pytest.mark.long("aarch64")
@pytest.mark.parametrize("scenario", ["traffic", "packets", "vhost", "dirty_log", pytest.param("vhost_queues", marks=pytest.mark.long), "queues", "cable", "deleted",
                                      "moved", "user"])
def test_a_guest_on_a_network(image, scenario):
    """See the function of that name."""
    assert f"{scenario} well" in script("network.py", scenario, image)


@pytest.mark.long
def test_ten_million_small_packets_both_ways(image):
    assert "packets well" in script("network.py", "many_packets", image, limit=6 * 3600)
