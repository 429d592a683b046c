"""virtio-mem with a Linux guest; what is done with it is in memories.py."""
import pytest
from runs import make_image, script


@pytest.fixture(scope="module")
def memory_image(bed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    make_image(folder, "--kernel", "backports", "--modules", "virtio_mmio,virtio_mem")
    return str(folder)


@pytest.mark.long("aarch64")
def test_virtio_mem_grows_and_shrinks_a_running_guest_by_one_gib(memory_image):
    assert "all came back" in script("memories.py", "grows", memory_image)


@pytest.mark.long("aarch64")
def test_plugged_memory_is_saved_with_the_machine(memory_image):
    assert "all came back" in script("memories.py", "saved", memory_image)


@pytest.mark.long("aarch64")
def test_blocks_of_huge_pages_come_and_go(bed):
    assert "all came back" in script("memories.py", "huge", "-")
