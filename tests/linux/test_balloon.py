"""Memory between a Linux guest and its host; what is done with it is in balloons.py."""
import pytest
from runs import make_image, script


@pytest.fixture(scope="module")
def balloon_image(bed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("balloon")
    make_image(folder, "--kernel", "backports", "--modules", "virtio_mmio,virtio_balloon")
    return str(folder)


@pytest.mark.long("aarch64")
def test_what_is_in_the_balloon_is_the_hosts_and_comes_back(balloon_image):
    assert "all came back" in script("balloons.py", "sizes", balloon_image)


def test_free_memory_is_given_back_by_itself_and_a_copy_has_other_random_numbers(balloon_image):
    assert "all came back" in script("balloons.py", "reports", balloon_image)


@pytest.mark.long("aarch64")
def test_huge_pages_are_reserved_and_given_back(bed):
    assert "all came back" in script("balloons.py", "huge", "-")
