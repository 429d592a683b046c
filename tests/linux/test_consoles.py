"""A Linux guest's virtio console and port; what is done with them is in consoles.py."""
import pytest
from runs import script


def test_a_login_on_a_console_and_a_port_whose_other_end_comes_and_goes(virtio_image):
    assert "logged in and out" in script("consoles.py", "login", virtio_image)


@pytest.mark.long
def test_the_same_on_packed_rings(virtio_image):
    assert "logged in and out" in script("consoles.py", "login_packed", virtio_image)
