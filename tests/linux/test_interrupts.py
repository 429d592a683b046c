"""Interrupts beyond the 24 pins of the first I/O APIC; what is done is in interrupts.py."""
import pytest
from runs import script


@pytest.mark.long("aarch64")
def test_a_guest_has_64_devices_and_loses_no_interrupt_of_the_second_ioapic_when_it_is_moved_under_load(virtio_image):
    assert "moves" in script("interrupts.py", "moved", virtio_image)
