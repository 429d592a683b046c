"""A Linux guest's vsock over unix sockets of the host, and over its kernel; what is done with it is in vsocks.py."""
import os
import subprocess

import pytest
from runs import compile_program, make_image, script


@pytest.fixture(scope="module")
def vsock_image(bed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vsock")
    program = compile_program("vsock", folder)
    make_image(folder, "--modules", "virtio_mmio,vmw_vsock_virtio_transport", "--files", f"{program}:vsock")
    return str(folder)


@pytest.mark.long("aarch64")
@pytest.mark.parametrize("scenario", ["connections", pytest.param("connections_vhost", marks=pytest.mark.long), "few_connections_vhost"])
def test_connections_both_ways_at_once_and_in_turn_and_two_restores(vsock_image, scenario):
    assert "all came back right" in script("vsocks.py", scenario, vsock_image)


@pytest.mark.long
def test_the_same_on_packed_rings(vsock_image):
    assert "all came back right" in script("vsocks.py", "connections_packed", vsock_image)


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["many_connections", "many_connections_vhost"])
def test_a_hundred_thousand_connections_in_turn(vsock_image, scenario):
    assert "all came back right" in script("vsocks.py", scenario, vsock_image, limit=7200)
