"""tools/test counts what programs print, also when they die half-way; tools/demo believes only a complete report."""

import importlib.machinery
import importlib.util
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


def test_nothing_run_is_not_a_success(capsys):
    assert run_tests.report({"unit": ([], 1.0)}) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 0 failed"


def test_a_program_that_hangs_is_ended_and_named(monkeypatch, tmp_path):
    assert run_tests.run(["sh", "-c", "echo begun; sleep 1000"], tmp_path / "log", "unit", limit=1) is None
    assert (tmp_path / "log").read_text() == "begun\n\ntools/test: ended after 1 s\n"


@pytest.mark.parametrize("names, parts", [
    ([], {"presubmit", "asan", "tsan", "fuzz", "tools"}),
    (["unit", "fuzz"], {"unit", "fuzz"}),
    (["memory_test"], {"unit"}),
    (["asan", "memory_test"], {"asan"}),
    (["queue_fuzz"], {"fuzz"}),
    (["EventLoop.*"], {"unit"}),
    (["tests/tools/test_runner.py::test_x"], {"tools"}),
])
def test_names_choose_parts(names, parts):
    known = {part: None for part in ("presubmit", "unit", "asan", "tsan", "fuzz", "tools")}
    assert run_tests.choose(names, known, long=False).parts == parts


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
