"""What the VMM says to bad input. Most rows end before KVM is needed; the snapshots need any /dev/kvm, real or emulated."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

from vmm import start_vmm  # noqa: E402,F401  (a fixture)


def pytest_collection_modifyitems(items):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="/dev/kvm can't be opened"))
