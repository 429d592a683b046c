"""The list of complaints that the other tests allow, measured again: QEMU still gives each of them."""
import re

import pytest
from test_boot import BASELINE

PEERS = ["qemu", "qemu backports", "qemu acpi=off", "qemu nolapic"]


@pytest.mark.long
@pytest.mark.run("qemu")
@pytest.mark.run("qemu backports")
@pytest.mark.run("qemu acpi=off")
@pytest.mark.run("qemu nolapic")
def test_qemu_gives_each_line_of_the_baseline(all_runs):
    lines = [line for name in PEERS for line in all_runs[name].result().report.complaints()]
    assert [known for known in BASELINE if not any(re.fullmatch(known, line) for line in lines)] == []
