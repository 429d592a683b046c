"""Debian's kernels, untouched, in our microVM: under tools/with-kvm, because they need a KVM that is real.

What boots is in runs.py; a test names the run that it looks at with @pytest.mark.run("name"). All runs that are asked for start
at once, as many at a time as there are processors, so that many tests cost one boot.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

import runs  # noqa: E402
from vmm import ROOT, architecture  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "run(name): the run of runs.py that the test looks at")
    config.addinivalue_line("markers", "long(architecture): only with STRATO_LONG in the environment (tools/test --long), if not on that alone")


def pytest_collection_modifyitems(items):
    for item in items:
        names = {marker.args[0] for marker in item.iter_markers("run")}
        if absent := sorted(names - set(runs.RUNS)):
            item.add_marker(pytest.mark.skip(reason=f"on {architecture()} there is no run {absent[0]!r}"))
    if os.environ.get("STRATO_LONG"):
        return
    for item in items:
        slow = any(marker.args[0] in runs.LONG for marker in item.iter_markers("run"))
        if slow or any(architecture() in (marker.args or [architecture()]) for marker in item.iter_markers("long")):
            item.add_marker(pytest.mark.skip(reason="the time of a whole run does not allow it: only in tools/test --long"))


@pytest.fixture(scope="session")
def bed(tmp_path_factory):
    """One bed for all runs: the caller's, or one of our own."""
    if "STRATO_BED" in os.environ:
        yield
        return
    with_kvm = os.path.join(ROOT, "tools", "with-kvm")
    folder = str(tmp_path_factory.mktemp("bed"))
    subprocess.run([with_kvm, "--start", "--arch", architecture(), "--bed", folder, "--owner", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
    os.environ["STRATO_BED"] = folder
    yield
    del os.environ["STRATO_BED"]
    subprocess.run([with_kvm, "--stop", "--bed", folder], check=True)


@pytest.fixture(scope="session")
def all_runs(request, bed, tmp_path_factory):
    images = runs.Images(pathlib.Path(tmp_path_factory.mktemp("images")))
    skipped = {item for item in request.session.items if item.get_closest_marker("skip")}
    names = [marker.args[0] for item in request.session.items if item not in skipped for marker in item.iter_markers("run")]
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        images.folder(*runs.RUNS[name].image)  # one after the other: they share the cache
    with concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        yield {name: pool.submit(runs.perform, runs.RUNS[name], images) for name in wanted}


@pytest.fixture(scope="session")
def virtio_image(bed, tmp_path_factory):
    """The image for the guests of guests.py: drivers of all our virtio devices, and programs.ext4 with fio."""
    folder = str(tmp_path_factory.mktemp("virtio"))
    subprocess.run([os.path.join(ROOT, "tools", "packages"), "block"], check=True)
    runs.make_image(folder, "--modules", "virtio_mmio,virtio_blk,virtio_console,virtio_rng,ext4,squashfs", "--disk-with", "fio")
    return folder


@pytest.fixture
def run(request, all_runs):
    """The outcome of the run that the test is marked with."""
    return all_runs[request.node.get_closest_marker("run").args[0]].result()
