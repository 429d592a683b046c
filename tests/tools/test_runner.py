"""tools/test counts what programs print, also when they die half-way; tools/demo believes only a complete report."""

import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/lib"))
import demo_report  # noqa: E402
import run_tests  # noqa: E402

GOOD = """\
[==========] Running 3 tests from 1 test suite.
[ RUN      ] Disk.Opens
[       OK ] Disk.Opens (0 ms)
[ RUN      ] Disk.Locks
disk_test.cc:7: Skipped
no locks here
[  SKIPPED ] Disk.Locks (1 ms)
[ RUN      ] Disk.Reads
text without a new line[       OK ] Disk.Reads (0 ms)
"""


def parse(text, code):
    cases = run_tests.parse_gtest(text, "disk_test", code, run_tests.LOGS / "disk_test.log")
    return [(case.name, case.status) for case in cases]


def test_gtest_cases_are_counted_and_a_skip_keeps_its_reason():
    assert parse(GOOD, 0) == [("disk_test Disk.Opens", "passed"), ("disk_test Disk.Locks", "skipped"),
                              ("disk_test Disk.Reads", "passed")]
    cases = run_tests.parse_gtest(GOOD, "disk_test", 0, run_tests.LOGS / "disk_test.log")
    assert cases[1].note == "disk_test.cc:7: Skipped no locks here"


def test_a_failure_is_counted_once_though_gtest_lists_it_twice():
    text = "[ RUN      ] Disk.Opens\n[  FAILED  ] Disk.Opens (0 ms)\n[  FAILED  ] 1 test, listed below:\n[  FAILED  ] Disk.Opens\n"
    assert parse(text, 1) == [("disk_test Disk.Opens", "failed")]


def test_a_failure_has_what_the_test_printed():
    text = "[ RUN      ] Disk.Opens\ndisk_test.cc:7: Failure\nExpected: open\n[  FAILED  ] Disk.Opens (0 ms)\n"
    cases = run_tests.parse_gtest(text, "disk_test", 1, run_tests.LOGS / "disk_test.log")
    assert [case.said for case in cases] == ["disk_test.cc:7: Failure\nExpected: open"]


def test_parameterised_names_keep_their_case():
    text = "[ RUN      ] All/Disk.Opens/0\n[  FAILED  ] All/Disk.Opens/0, where GetParam() = 3 (0 ms)\n"
    assert parse(text, 1) == [("disk_test All/Disk.Opens/0", "failed")]


def test_a_crash_is_the_failure_of_the_test_that_ran():
    text = GOOD + "[ RUN      ] Disk.Writes\n"
    assert parse(text, -6)[-1] == ("disk_test Disk.Writes (signal SIGABRT)", "failed")


@pytest.mark.parametrize("code", [1, -11, None])
def test_a_bad_end_without_a_failed_case_is_a_failure(code):
    assert parse(GOOD, code)[-1][1] == "failed"


def test_the_tests_of_a_pytest_that_was_ended_are_counted_whether_one_worker_ran_or_more():
    text = ("tests/a.py::test_one PASSED [ 50%]\n[gw1] [ 10%] FAILED tests/b.py::test_two[x y] \n"
            "[gw0] [100%] SKIPPED tests/b.py::test_three \ntests/b.py::test_four \n")
    assert run_tests.parse_verbose(text) == [("tests/a.py::test_one", "passed"), ("tests/b.py::test_two[x y]", "failed"),
                                             ("tests/b.py::test_three", "skipped")]


def test_last_line_has_exactly_the_promised_form(capsys):
    Case = run_tests.Case
    assert run_tests.report({"unit": ([Case("a", "passed"), Case("b", "passed")], 1.0)}) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 0 failed"
    results = {"unit": ([Case("a", "passed")], 1.0), "linux": ([Case("b", "failed", "x.log"), Case("c", "skipped", "why")], 2.0)}
    assert run_tests.report(results) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "1 passed, 1 failed, 1 skipped"
    assert "  linux: c: why" in printed and "  linux: b: x.log" in printed


def test_a_failed_python_test_is_reported_with_the_end_of_what_it_said(tmp_path, capsys):
    path = tmp_path / "x.xml"
    path.write_text('<testsuites><testsuite><testcase classname="a" name="good"/><testcase classname="a" name="bad"><failure message="m">'
                    f'{"long " * 1000}the reason</failure></testcase></testsuite></testsuites>')
    cases = run_tests.parse_junit(path, run_tests.LOGS / "x.log")
    assert [case.status for case in cases] == ["passed", "failed"]
    run_tests.report({"linux": (cases, 1.0)})
    printed = capsys.readouterr().out
    assert "linux: a::bad said at its end:\n" in printed and "the reason\n" in printed
    assert len(printed) < run_tests.SAID_CHARACTERS + 1000


def test_a_pytest_that_runs_out_of_time_still_tells_what_had_failed_and_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "test_slow.py").write_text("import time\nimport warnings\ndef test_a():\n    warnings.warn('repeated once')\n"
                                           "def test_b():\n    assert 1 == 2\ndef test_c():\n    time.sleep(600)\n")
    monkeypatch.setattr(run_tests, "PYTEST_LIMIT", 15)
    monkeypatch.setattr(run_tests, "LOGS", tmp_path)
    monkeypatch.setattr(run_tests, "relative", str)
    cases = run_tests.pytest_cases("slow", [], tmp_path / "x.xml", [str(tmp_path)], run_tests.Choice(), {})
    assert [(case.name.rpartition("::")[2], case.status) for case in cases] == [
        ("test_a", "passed"), ("test_b", "failed"), ("pytest slow (ran out of time)", "failed")]
    assert "assert 1 == 2" in cases[1].said and "test_c" in cases[2].said


SKIPS = """\
# A comment.

skips 2 disk_test Engines/*/ring: there is no ring
left 1 disk_test Disk.Locks: no locks either
"""


def held(*cases, whole=True):
    """What becomes of (name, status) under SKIPS: the failures, and all (name, status, group, note)."""
    given = [run_tests.Case(name, status, "own reason") for name, status in cases]
    checked = run_tests.held_to(run_tests.read_exemptions(SKIPS), given, whole)
    return [case.name for case in checked if case.status == "failed"], [(c.name, c.status, c.group, c.note) for c in checked]


EXPECTED_SKIPS = [("disk_test Engines/A.Reads/ring", "skipped"), ("disk_test Engines/A.Writes/ring", "skipped"), ("disk_test Disk.Locks", "skipped")]


def test_skips_as_listed_are_no_failure_and_go_by_the_name_of_the_list():
    failures, cases = held(*EXPECTED_SKIPS, ("disk_test Engines/A.Reads/plain", "passed"))
    assert failures == []
    assert cases[0] == ("disk_test Engines/A.Reads/ring", "skipped", "disk_test Engines/*/ring", "there is no ring")
    assert cases[3] == ("disk_test Engines/A.Reads/plain", "passed", "", "own reason")


def test_a_skip_too_many_or_too_few_is_a_failure():
    assert held(*EXPECTED_SKIPS[1:])[0] == ["disk_test Engines/*/ring: 1 skips, not 2"]
    assert held(*EXPECTED_SKIPS, ("disk_test Engines/B.Reads/ring", "skipped"))[0] == ["disk_test Engines/*/ring: 3 skips, not 2"]
    # It runs now: the list is out of date.
    assert held(("disk_test Engines/A.Reads/ring", "passed"), *EXPECTED_SKIPS[1:])[0] == ["disk_test Engines/*/ring: 1 skips, not 2"]
    # The same name in another program is another test.
    assert held(*EXPECTED_SKIPS, ("tape_test Disk.Locks", "skipped"))[0] == ["tape_test Disk.Locks: its skip is not in aarch64_skips.txt"]


def test_of_a_piece_only_unknown_skips_are_a_failure():
    assert held(("disk_test Disk.Locks", "skipped"), ("disk_test Disk.Opens", "skipped"), whole=False)[0] == [
        "disk_test Disk.Opens: its skip is not in aarch64_skips.txt"]


@pytest.mark.parametrize("line", ["skips 0 disk_test A.B: why", "skips 1 disk_test A.B:", "maybe 1 disk_test A.B: why", "skips 1 A.B: why"])
def test_a_bad_line_of_the_list_is_refused(line):
    with pytest.raises(SystemExit, match="line 2 "):
        run_tests.read_exemptions("# list\n" + line)


def test_the_list_of_the_tree_is_well_formed():
    assert len(run_tests.read_exemptions(run_tests.AARCH64_SKIPS.read_text())) > 0


def test_names_of_a_listing_are_whole():
    text = "Running main() from gtest_main.cc\nDisk.\n  Opens\nEngines/Raw.\n  Reads/plain  # GetParam() = 8-byte object <00-00>\n"
    assert run_tests.parse_gtest_list(text) == ["Disk.Opens", "Engines/Raw.Reads/plain"]


def test_many_skips_for_one_reason_are_one_line(capsys):
    Case = run_tests.Case
    cases = [Case("a", "passed"), Case("b", "skipped", "why", "group"), Case("c", "skipped", "why", "group"), Case("d", "skipped", "other")]
    assert run_tests.report({"aarch64": (cases, 1.0)}) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("  ")] == ["  aarch64: group: why (2 tests)", "  aarch64: d: other"]
    assert printed[-1] == "1 passed, 0 failed, 3 skipped"


def test_nothing_run_is_not_a_success(capsys):
    assert run_tests.report({"unit": ([], 1.0)}) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 0 failed"


def test_a_program_that_hangs_is_ended_and_named(monkeypatch, tmp_path):
    assert run_tests.run(["sh", "-c", "echo begun; sleep 1000"], tmp_path / "log", "unit", limit=1) is None
    assert (tmp_path / "log").read_text() == "begun\n\ntools/test: ended after 1 s\n"


@pytest.mark.parametrize("names, parts", [
    ([], {"presubmit", "asan", "tsan", "aarch64", "fuzz", "tools"}),
    (["unit", "fuzz"], {"unit", "fuzz"}),
    (["memory_test"], {"unit"}),
    (["asan", "memory_test"], {"asan"}),
    (["aarch64", "memory_test"], {"aarch64"}),
    (["queue_fuzz"], {"fuzz"}),
    (["EventLoop.*"], {"unit"}),
    (["tests/tools/test_runner.py::test_x"], {"tools"}),
    (["linux-aarch64", "tests/linux/test_boot.py"], {"linux-aarch64"}),
    (["payload-aarch64", "tests/payload/test_hello.py", "payload"], {"payload-aarch64", "payload"}),
])
def test_names_choose_parts(names, parts):
    known = {part: None for part in ("presubmit", "unit", "asan", "tsan", "aarch64", "fuzz", "tools")}
    known |= {name: None for word in names if word.startswith(("linux", "payload")) for name in (word, word.split("-")[0])}
    assert run_tests.choose(names, known, long=False).parts == parts


def test_what_a_short_run_has_of_the_arm64_bed_is_there():
    assert [path for path in run_tests.IN_ARM_BED_ALWAYS if not (ROOT / path).is_file() or path.split("/")[1] not in run_tests.IN_ARM_BED] == []


def test_an_unknown_name_is_refused():
    with pytest.raises(SystemExit, match="no such part or program: nosuch"):
        run_tests.choose(["nosuch"], {"unit": None}, long=False)


def test_demo_takes_only_a_complete_report():
    text = "noise\r\nSTRATO-REPORT-BEGIN\r\nuname=Linux 6.1\r\nnproc=2\r\nSTRATO-REPORT-END\r\n"
    assert demo_report.reported(text) == {"uname": "Linux 6.1", "nproc": "2"}
    assert demo_report.reported(text.replace("STRATO-REPORT-END", "")) is None


def test_packages_names_unknown_groups_and_build_unknown_presets():
    for argv, word in ((["tools/packages", "nosuch"], "build"), (["tools/build", "nosuch"], "release|dev")):
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and word in done.stderr and done.stdout == ""


FAKES = {
    "id": "echo 0",
    "dpkg": """case $1 in
        --print-architecture) echo amd64 ;;
        --print-foreign-architectures) cat known ;;
        --add-architecture) echo "$2" >>known; echo "add $2" >>calls ;;
    esac""",
    "dpkg-query": 'cat "installed-$4" 2>/dev/null || echo "amd64 installed"',
    "dpkg-deb": 'mkdir -p "$3/usr"; basename "$2" >>"$3/usr/unpacked"',
    "apt-get": """while [ "$1" = -o ]; do shift 2; done
        echo "$@" >>"$FAKES/calls"
        [ "$1" = download ] || exit 0
        grep -q arm64 "$FAKES/known" && grep -q update "$FAKES/calls" || { echo "E: Unable to locate package" >&2; exit 100; }
        shift
        for name in "$@"; do touch "${name%:*}_1.0_${name#*:}.deb"; done""",
}


@pytest.fixture
def foreign_packages(tmp_path):
    """tools/packages with a Debian of shell scripts, which knows no foreign architecture at first: runs it, and says what it called."""
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n[ {name} = apt-get ] || cd {tmp_path}\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "known").write_text("")
    environment = dict(os.environ, PATH=f"{tmp_path}:{os.environ['PATH']}", XDG_CACHE_HOME=str(tmp_path / "cache"), FAKES=str(tmp_path))

    def install():
        (tmp_path / "calls").write_text("")
        done = subprocess.run([ROOT / "tools/packages", "aarch64"], env=environment, capture_output=True, text=True)
        return done.returncode, done.stderr, (tmp_path / "calls").read_text().splitlines()

    install.root = tmp_path / "cache/stratovirt/sysroot-arm64"
    install.known = tmp_path / "known"
    return install


def test_packages_of_another_architecture_are_unpacked_once(foreign_packages):
    code, said, calls = foreign_packages()
    assert code == 0 and "Adding arm64 to dpkg's architectures" in said
    assert calls[:2] == ["add arm64", "update"]
    assert calls[2].startswith("download ") and "libfdt-dev:arm64" in calls[2] and len(calls) == 3
    assert "libfdt-dev_1.0_arm64.deb" in (foreign_packages.root / "usr/unpacked").read_text()
    assert foreign_packages() == (0, "", [])
    # One that the list has got since.
    (foreign_packages.root / ".packages/libfdt-dev").unlink()
    code, _, calls = foreign_packages()
    assert code == 0 and calls[-1] == "download libfdt-dev:arm64"
    assert "add arm64" not in calls


def test_a_package_that_is_installed_for_two_architectures_is_there_and_one_for_another_only_is_not(foreign_packages):
    foreign_packages()
    installed = foreign_packages.known.parent / "installed-g++-aarch64-linux-gnu"
    for text in ("amd64 installed\narm64 installed\n", "all installed\n"):
        installed.write_text(text)
        assert foreign_packages() == (0, "", [])
    for text in ("arm64 installed\n", "amd64 not-installed\n", "amd64 config-files\n"):
        installed.write_text(text)
        assert foreign_packages()[2] == ["install -y --no-install-recommends g++-aarch64-linux-gnu"]


def test_lists_that_lack_a_known_architecture_are_fetched(foreign_packages):
    foreign_packages.known.write_text("armhf\narm64\n")
    code, _, calls = foreign_packages()
    assert code == 0 and [call.split()[0] for call in calls] == ["download", "update", "download"]


LAYER = """\
cmake_minimum_required(VERSION 3.25)
project(layer NONE)
function(add_library name)
  foreach(source IN LISTS ARGN)
    message(STATUS "source ${source}")
  endforeach()
endfunction()
function(target_link_libraries)
endfunction()
include(%s/cmake/layer.cmake)
strato_layer(disk)
"""


@pytest.mark.parametrize("arch, named", [("x86_64", ["x86_64.cc", "x86_64_msr.cc"]), ("aarch64", ["aarch64.cc", "aarch64_gic.cc"]), ("riscv64", [])])
def test_a_layer_has_the_files_that_are_named_for_its_architecture_and_for_none(tmp_path, arch, named):
    (tmp_path / "disk").mkdir()
    common = ["raw.cc", "to_x86_64.cc", "x86_64ish.cc"]
    for name in [*common, "x86_64.cc", "x86_64_msr.cc", "x86_64_test.cc", "aarch64.cc", "aarch64_gic.cc"]:
        (tmp_path / "disk" / name).touch()
    (tmp_path / "CMakeLists.txt").write_text(LAYER % ROOT)
    done = subprocess.run(["cmake", f"-DSTRATO_ARCH={arch}", "-S", tmp_path, "-B", tmp_path / "build"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split("/")[-1] for line in done.stdout.splitlines() if line.startswith("-- source /")] == sorted([*common, *named])


COVERAGE = """\
queue_fuzz                 virtio/queue.cc                        96.4 %  of 138 lines
    not reached: 5 6
queue_fuzz                 virtio/chain.cc                        86.0 %  of 136 lines: too few
"""


def test_a_parser_that_is_reached_too_little_is_a_failure():
    def verdicts(text, code):
        return [case.status for case in run_tests.parse_coverage(text, code, run_tests.LOGS / "coverage.log")]

    assert verdicts(COVERAGE, 1) == ["passed", "failed"]
    assert verdicts(COVERAGE.splitlines()[0], 0) == ["passed"]
    # It died, or said nothing: not a success either.
    assert verdicts(COVERAGE.splitlines()[0], 1) == ["passed", "failed"]
    assert verdicts(COVERAGE, None) == ["passed", "failed", "failed"]
    assert verdicts("", 0) == ["failed"]


@pytest.fixture
def coverage_tool():
    loader = importlib.machinery.SourceFileLoader("coverage_tool", str(ROOT / "tools/coverage"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("coverage_tool", loader))
    loader.exec_module(module)
    return module


def test_each_fuzz_target_has_parsers_and_each_parser_is_there(coverage_tool):
    known = coverage_tool.targets()
    assert coverage_tool.disagreements(known) == []
    wrong = coverage_tool.disagreements(["queue_fuzz", "new_fuzz"], {"queue_fuzz": ["virtio/gone.cc"], "old_fuzz": []})
    assert len(wrong) == 3 and "new_fuzz" in wrong[0] and "old_fuzz" in wrong[1] and "virtio/gone.cc" in wrong[2]


def test_lines_that_no_input_reaches_are_counted_and_named(coverage_tool):
    report = "SF:{0}/src/a.cc\nFN:3,f\nDA:3,7\nDA:4,0\nDA:5,1\nLF:3\nend_of_record\n".format(coverage_tool.ROOT)
    assert coverage_tool.counted(report, ["a.cc"]) == {"a.cc": (3, [4])}
    with pytest.raises(KeyError):
        coverage_tool.counted(report, ["a.cc", "b.cc"])
