"""tools/with-kvm: a command in the bed behaves as it would outside, and nothing of it is left behind."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = str(ROOT / "tools" / "with-kvm")
HERE = pathlib.Path(__file__).resolve().parent
HOST = os.uname().machine
ARCHES = list(dict.fromkeys([HOST, "aarch64"]))  # this machine's, and one that needs programs of its own
STORE = {"x86_64": "1 byte to port 0x80: 2\n", "aarch64": "1 byte to 0x9030000: 2\n"}
AWKWARD = ["two words", "", "'single' \"double\"", "new\nline", "$HOME `id` \\", "-x", "*", "é"]


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("STRATO_")}


@pytest.fixture(scope="module", params=ARCHES)
def arch(request):
    return request.param


@pytest.fixture(scope="module")
def bed(arch, tmp_path_factory):
    """One bed of each architecture for all tests here, also where KVM is real."""
    folder = str(tmp_path_factory.mktemp("bed"))
    start = [TOOL, "--nested", "--start", "--arch", arch, "--bed", folder, "--owner", str(os.getpid())]
    assert subprocess.run(start, env=clean_environment(), stdout=subprocess.PIPE, timeout=1200, text=True).stdout == folder + "\n"
    yield folder
    subprocess.run([TOOL, "--stop", "--bed", folder], check=True, timeout=60)
    assert os.listdir(folder) == ["scratch"]


def in_bed(bed, *argv, **options):
    options.setdefault("env", clean_environment())
    options.setdefault("stdin", subprocess.DEVNULL)
    words = options.pop("words", [])
    return subprocess.run([TOOL, "--nested", "--bed", bed, *words, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=300, **options)


def start_in_bed(bed, *argv, words=()):
    return subprocess.Popen([TOOL, "--nested", "--bed", bed, *words, *argv], env=clean_environment(), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes_named(bed, text):
    """Command lines in the bed that contain `text`, without those of the search itself."""
    listing = in_bed(bed, "ps", "-eo", "args").stdout.splitlines()
    return [line for line in listing if text in line]


def test_kvm_runs_a_guest(bed, arch):
    done = in_bed(bed, "/usr/bin/python3", str(HERE / "one_store.py"))
    assert (done.stdout, done.stderr) == (STORE[arch], "")
    if arch == "x86_64":
        assert in_bed(bed, "grep", "-qw", "-e", "svm", "-e", "vmx", "/proc/cpuinfo").returncode == 0


def test_an_arm64_bed_may_have_another_interrupt_controller_and_processor():
    script = """if True:
        import fcntl, struct
        vm = fcntl.ioctl(open("/dev/kvm", "rb"), 0xAE01, 0)
        def has_device(kind):
            try:
                return fcntl.ioctl(vm, 0xC00CAEE0, struct.pack("=III", kind, 0, 1)) is not None  # KVM_CREATE_DEVICE_TEST
            except OSError:
                return False
        print("GICv2", has_device(5), "GICv3", has_device(7), "SVE", fcntl.ioctl(vm, 0xAE03, 170) == 1)
    """
    bed = [TOOL, "--nested", "--arch", "aarch64", "--gic", "2", "--sve"]
    done = subprocess.run([*bed, "/usr/bin/python3", "-c", script], env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=1200)
    assert done.stdout == "GICv2 True GICv3 False SVE True\n", done.stderr


def test_programs_are_of_the_beds_architecture(bed, arch):
    done = in_bed(bed, "/usr/bin/python3", "-c", "import os, sysconfig, pytest; print(os.uname().machine, sysconfig.get_platform())")
    assert done.stdout == f"{arch} linux-{arch}\n"


def test_a_bed_that_is_another_than_asked_for_is_named(bed, arch):
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[arch]
    done = in_bed(bed, "true", words=["--arch", other])
    assert (done.returncode, done.stdout) == (125, "")
    assert f"is {arch}" in done.stderr


def test_the_exit_code_is_the_commands(bed):
    assert in_bed(bed, "sh", "-c", "exit 7").returncode == 7
    assert in_bed(bed, "sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    assert in_bed(bed, "no-such-program").returncode == 127


def test_output_and_errors_stay_apart(bed):
    done = in_bed(bed, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_arguments_arrive_as_they_are(bed):
    done = in_bed(bed, "/usr/bin/python3", "-c", "import sys; print(sys.argv[1:])", *AWKWARD)
    assert done.stdout == f"{AWKWARD}\n"


def test_the_working_directory_and_files_are_the_hosts(bed, tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    for content in ("first", "second"):  # a changed file is seen as changed
        (folder / "file").write_text(content)
        done = in_bed(bed, "sh", "-c", "pwd; cat file", cwd=folder)
        assert done.stdout == f"{folder}\n{content}"


def test_files_of_the_host_cannot_be_changed(bed):
    path = pathlib.Path("/usr/strato-never")  # not below our own folder, which may be a temporary one
    assert in_bed(bed, "touch", str(path)).returncode != 0
    assert not path.exists()


def test_temporary_files_stay_in_the_bed(bed, tmp_path):
    assert in_bed(bed, "touch", str(tmp_path / "inside")).returncode == 0
    assert not (tmp_path / "inside").exists()


def test_the_environment_is_the_callers(bed):
    environment = dict(clean_environment(), STRATO_TEST_WORD="two words\nand a line")
    assert in_bed(bed, "sh", "-c", 'printf %s "$STRATO_TEST_WORD"', env=environment).stdout == "two words\nand a line"


def test_results_come_out_through_the_scratch_folder(bed):
    done = in_bed(bed, "sh", "-c", 'echo result >"$STRATO_SCRATCH/out file"; echo "$STRATO_SCRATCH"')
    assert (pathlib.Path(done.stdout.strip()) / "out file").read_text() == "result\n"


def test_the_scratch_disk_takes_direct_writes(bed):
    write = 'dd if=/dev/zero of="$STRATO_SCRATCH_DISK/direct" bs=4096 count=4 oflag=direct'
    assert in_bed(bed, "sh", "-c", write).returncode == 0


def test_modules_load_on_demand(bed):
    assert in_bed(bed, "losetup", "--find").stdout.startswith("/dev/loop")


def test_stdin_arrives_whole(bed):
    data = "".join(f"line {number}\n" for number in range(200_000))
    done = in_bed(bed, "cat", stdin=None, input=data)
    assert done.stdout == data


def test_several_commands_run_at_once(bed):
    together = f'touch "$STRATO_SCRATCH/$0"; until [ -e "$STRATO_SCRATCH/$1" ]; do sleep 0.1; done'
    left = start_in_bed(bed, "sh", "-c", together, "left", "right", words=["--timeout", "200"])
    right = start_in_bed(bed, "sh", "-c", together, "right", "left", words=["--timeout", "200"])
    assert (left.wait(), right.wait()) == (0, 0)


def test_a_time_out_leaves_no_process(bed):
    stubborn = "trap '' TERM; setsid sleep 98761 & sleep 98762; sleep 98763"
    assert in_bed(bed, "sh", "-c", stubborn, words=["--timeout", "1"]).returncode == 124
    assert processes_named(bed, "sleep 9876") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command(bed, number):
    handler = f"trap 'exit 42' {number.value}; echo ready; while :; do sleep 0.2; done"
    running = start_in_bed(bed, "sh", "-c", handler)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(number)
    assert running.wait(100) == 42


def test_a_killed_client_takes_its_command_along(bed):
    running = start_in_bed(bed, "sh", "-c", "setsid sleep 87651 & echo ready; sleep 87652")
    assert running.stdout.readline() == "ready\n"
    running.kill()
    running.wait()
    deadline = time.monotonic() + 60
    while processes_named(bed, "sleep 8765"):
        assert time.monotonic() < deadline


def test_a_bed_ends_with_its_owner(tmp_path):
    owner = subprocess.Popen(["sleep", "1000"])
    start = [TOOL, "--nested", "--start", "--bed", str(tmp_path), "--owner", str(owner.pid)]
    subprocess.run(start, env=clean_environment(), check=True, stdout=subprocess.DEVNULL, timeout=1200)
    keeper = int((tmp_path / "keeper").read_text())
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 60
    while (tmp_path / "keeper").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not pathlib.Path(f"/proc/{keeper}").exists() or "Z" in pathlib.Path(f"/proc/{keeper}/stat").read_text()


@pytest.mark.parametrize("name", ARCHES)
def test_a_bed_for_one_command_goes_away(tmp_path, name):
    environment = dict(clean_environment(), STRATO_SCRATCH=str(tmp_path))
    command = [TOOL, "--nested", "--arch", name, "sh", "-c", 'echo inside >"$STRATO_SCRATCH/file"; exit 3']
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=1200)
    assert done.returncode == 3
    assert (tmp_path / "file").read_text() == "inside\n"
    assert "bed is gone" in done.stderr


def test_without_a_bed_the_message_says_so(tmp_path):
    done = in_bed(str(tmp_path), "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert "no bed runs there" in done.stderr


def test_a_bed_that_hangs_is_started_anew(tmp_path):
    start = [TOOL, "--nested", "--start", "--bed", str(tmp_path), "--owner", str(os.getpid()), "--patience", "20"]
    subprocess.run(start, env=clean_environment(), check=True, stdout=subprocess.DEVNULL, timeout=1200)
    try:
        keeper = (tmp_path / "keeper").read_text().strip()
        qemu = int(pathlib.Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
        os.kill(qemu, signal.SIGSTOP)
        assert in_bed(str(tmp_path), "true").returncode in (0, 125)  # what runs when it is found out is lost
        assert in_bed(str(tmp_path), "echo", "up again").stdout == "up again\n"
        assert not pathlib.Path(f"/proc/{qemu}").exists()
    finally:
        subprocess.run([TOOL, "--stop", "--bed", str(tmp_path)], check=True, timeout=60)


@pytest.mark.skipif(not os.environ.get("STRATO_LONG"), reason="takes a minute: only in tools/test --long")
def test_a_bed_that_crashes_is_started_anew(tmp_path):
    start = [TOOL, "--nested", "--start", "--bed", str(tmp_path), "--owner", str(os.getpid())]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
    try:
        inside = [TOOL, "--nested", "--bed", str(tmp_path), "--timeout", "120"]
        time.sleep(20)  # until its keeper has seen it up
        crashed = subprocess.run([*inside, "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 60"], stdin=subprocess.DEVNULL, capture_output=True)
        assert crashed.returncode == 125
        assert subprocess.run([*inside, "echo", "up again"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout == "up again\n"
    finally:
        subprocess.run([TOOL, "--bed", str(tmp_path), "--stop"], check=True)
