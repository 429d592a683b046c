"""Tables that src/boot writes, read by others' tools. `tools/test boot` builds what writes them."""
import os
import pathlib
import subprocess

import pytest

BOOT_TEST = pathlib.Path(__file__).resolve().parents[2] / "build/asan/bin/boot_test"


@pytest.fixture(scope="session")
def dump():
    """Has the unit test TEST of boot_test write what it has made to a folder, which the environment variable VARIABLE names to it."""

    def run(test, variable, folder):
        assert BOOT_TEST.exists(), "no boot_test: tools/build asan boot_test"
        subprocess.run([BOOT_TEST, f"--gtest_filter={test}"], check=True, capture_output=True, env=os.environ | {variable: str(folder)})
        return folder

    return run
