"""tools/test: all the tests of the tree, counted case by case."""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree

import source

ROOT = source.ROOT
LOGS = ROOT / "build/test"
JOBS = os.cpu_count() or 1
DESCRIPTION = """\
Without NAME all parts run but unit: presubmit, asan and tsan (the unit tests under the sanitizers), aarch64 (the unit tests
cross-built, in QEMU's user-mode emulation), fuzz (30 s each, with the stored corpus), and each folder of tests/ with Python
tests: payload (guests of our own, on any /dev/kvm), tools, linux (Debian's kernel, in the bed of tools/with-kvm where KVM is
not real); at last linux-aarch64 and payload-aarch64 (payload, lifecycle and badinput), the same tests of the VMM for arm64, in
an arm64 bed. unit is the same unit tests by g++ alone, which --long runs too.
NAME is a part; a program such as memory_test or queue_fuzz; a gtest pattern such as 'EventLoop.*'; or a path below tests/,
with ::test_name if wanted. Logs lie in build/test."""
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
GTEST_LINE = re.compile(r"\[( RUN      |       OK |  FAILED  |  SKIPPED )\] (\S+?)(?:, where .*)?(?: \(\d+ ms\))?$")
# What the emulator of the part aarch64 cannot do.
AARCH64_SKIPS = ROOT / "tools/lib/aarch64_skips.txt"
# What of tests/ runs inside an arm64 bed as the part payload-aarch64, and what of it when the run is not --long: an emulated machine takes
# ten to fifty times as long as this one.
IN_ARM_BED = ("payload", "lifecycle", "badinput")
IN_ARM_BED_ALWAYS = [
    "tests/payload/test_arm64.py", "tests/payload/test_hello.py", "tests/payload/test_report.py", "tests/payload/test_timer.py",
    "tests/badinput/test_files.py", "tests/lifecycle/test_log.py",
]
# The same tests run under the sanitizers and for arm64; one more build of them all would take a whole run over its 40 minutes.
ONLY_BY_NAME = {"unit"}
# Whole-run bounds in seconds; a single program that hangs must not eat the run.
PROGRAM_LIMIT = 600
PYTEST_LIMIT = 2400
GRACE = 30  # from the request to end, to SIGKILL
BUILD_LIMIT = 2400
FUZZ_TOTAL = 240
FUZZ_EACH = 30
LONG_FUZZ_EACH = 600
MUTANT_LIMIT = 600
SAID_CHARACTERS = 1500


@dataclasses.dataclass
class Case:
    name: str
    status: str  # "passed", "failed" or "skipped"
    note: str = ""  # the log of a failure, the reason of a skip
    group: str = ""  # the name of many that are skipped for one reason
    said: str = ""  # the end of what a failure said: where the log is gone with the machine, all there is


class Progress:
    """One changing line on a terminal; elsewhere a line now and then."""

    def __init__(self):
        self.tty = sys.stdout.isatty()
        self.last = time.monotonic()
        self.lock = threading.Lock()

    def show(self, text):
        with self.lock:
            if self.tty:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r{text[:width]}\x1b[K", end="", flush=True)
            elif time.monotonic() - self.last > 30:
                self.last = time.monotonic()
                print(f"  ... {text}", flush=True)

    def say(self, text):
        with self.lock:
            print(f"\r\x1b[K{text}" if self.tty else text, flush=True)


progress = Progress()
children = set()


def stop_children():
    for child in list(children):
        try:
            os.killpg(child.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass


def run(argv, log, part, limit, env=None, cwd=ROOT, append=False):
    """Runs a program in a session of its own with all output in `log`; its exit code, or None after `limit` seconds: it is asked to end then
    (pytest writes its report), and killed soon afterwards."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab" if append else "wb") as out:
        child = subprocess.Popen([str(word) for word in argv], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, env=dict(os.environ, **(env or {})), start_new_session=True)
        children.add(child)
        expired, ended = threading.Event(), threading.Event()

        def end():
            expired.set()
            child.send_signal(signal.SIGINT)
            if not ended.wait(GRACE):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            for line in child.stdout:
                out.write(line)
                out.flush()
                text = line.decode(errors="replace").strip()
                if text:
                    progress.show(f"{part}: {text}")
            code = child.wait()
        finally:
            ended.set()
            timer.cancel()
            children.discard(child)
        if expired.is_set():
            out.write(f"\ntools/test: ended after {limit} s\n".encode())
            return None
        return code


def ending(code):
    if code is None:
        return "ran out of time"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def build(preset, part, targets=()):
    """Builds; the failure as a list of one case, or an empty list."""
    log = LOGS / f"build-{preset}.log"
    code = run(["tools/build", preset, *targets], log, f"{part}: build {preset}", BUILD_LIMIT)
    if code == 0:
        return []
    print_tail(log)
    return [Case(f"build of preset {preset} ({ending(code)})", "failed", relative(log))]


def relative(path):
    return str(path.relative_to(ROOT))


def print_tail(log, lines=25):
    text = log.read_text(errors="replace").splitlines()
    for line in text[-lines:]:
        progress.say(f"    {line}")


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        return [case for cases in pool.map(function, items) for case in cases]


# --- parts -------------------------------------------------------------------------------------------------------

def presubmit(_choice):
    log = LOGS / "presubmit.log"
    code = run(["tools/presubmit"], log, "presubmit", BUILD_LIMIT)
    text = log.read_text(errors="replace")
    cases = [Case(name, "passed" if verdict == "PASS" else "failed", relative(log))
             for verdict, name in re.findall(r"(?m)^(PASS|FAIL) (presubmit\.\w+)", text)]
    if code != 0:
        print_tail(log, 60)
    if code not in (0, 1) or not cases:
        cases.append(Case(f"presubmit ({ending(code)})", "failed", relative(log)))
    return cases


def parse_gtest(text, program, code, log):
    cases, running, reason = [], None, []
    for line in text.splitlines():
        found = GTEST_LINE.search(line)
        if found and found.group(1) == " RUN      ":
            running, reason = found.group(2), []
        elif found and found.group(2) == running:
            status = {"       OK ": "passed", "  FAILED  ": "failed", "  SKIPPED ": "skipped"}[found.group(1)]
            note = relative(log) if status == "failed" else " ".join(reason) if status == "skipped" else ""
            said = "\n".join(reason)[-SAID_CHARACTERS:] if status == "failed" else ""
            cases.append(Case(f"{program} {running}", status, note, said=said))
            running = None
        elif running:
            reason.append(line.strip())
    if running or (code != 0 and not any(case.status == "failed" for case in cases)):
        cases.append(Case(f"{program} {running or ''} ({ending(code)})", "failed", relative(log), said=text[-SAID_CHARACTERS:]))
    return cases


def launcher(preset):
    """What must stand before a test program: the emulator, also where binfmt would find one; TSan of g++ 12 does not cope with
    the widest address randomisation."""
    if preset == "aarch64-dev":
        return ["qemu-aarch64-static"]
    if preset == "tsan" and subprocess.run(["setarch", "-R", "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return ["setarch", "-R"]
    return []


@dataclasses.dataclass
class Exemption:
    """A line of aarch64_skips.txt: tests that skip themselves ("skips") or are not run ("left")."""
    how: str
    count: int
    program: str
    pattern: str
    reason: str

    def name(self):
        return f"{self.program} {self.pattern}"

    def covers(self, case_name):
        return fnmatch.fnmatchcase(case_name, self.name())


def read_exemptions(text):
    exemptions = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = re.fullmatch(r"(skips|left) +([1-9]\d*) +(\w+_test) +(\S+): +(\S.*)", line)
        if not found:
            sys.exit(f"tools/test: line {number} of the list of skips is no 'skips|left NUMBER PROGRAM PATTERN: REASON': {line}")
        how, count, program, pattern, reason = found.groups()
        exemptions.append(Exemption(how, int(count), program, pattern, reason))
    return exemptions


def parse_gtest_list(text):
    """SUITE.TEST of each test that --gtest_list_tests names."""
    names, suite = [], ""
    for line in text.splitlines():
        found = re.fullmatch(r"(  )?(\S+)(?: +# .*)?", line)
        if found and not found.group(1):
            suite = found.group(2)
        elif found:
            names.append(suite + found.group(2))
    return names


def held_to(exemptions, cases, whole):
    """The cases, with a failure for each skip that nobody expects and, when `whole` programs ran, for each number that is not
    as expected."""
    checked, numbers = [], [0] * len(exemptions)
    for case in cases:
        expected = [i for i, exemption in enumerate(exemptions) if case.status == "skipped" and exemption.covers(case.name)]
        for i in expected:
            numbers[i] += 1
            case = dataclasses.replace(case, group=exemptions[i].name(), note=exemptions[i].reason)
        checked.append(case)
        if case.status == "skipped" and not expected:
            checked.append(Case(f"{case.name}: its skip is not in {AARCH64_SKIPS.name}", "failed", case.note))
    for exemption, number in zip(exemptions, numbers):
        if whole and number != exemption.count:
            checked.append(Case(f"{exemption.name()}: {number} skips, not {exemption.count}", "failed", relative(AARCH64_SKIPS)))
    return checked


def emulated_gtests(choice):
    """The unit tests in user-mode emulation: what that cannot do is skipped by name, and the number of skips is fixed."""
    exemptions = read_exemptions(AARCH64_SKIPS.read_text())
    cases = gtests("aarch64-dev", "aarch64", choice, [exemption for exemption in exemptions if exemption.how == "left"])
    if choice.programs:
        exemptions = [exemption for exemption in exemptions if exemption.program in choice.programs]
    built = any(case.status != "failed" for case in cases)
    return held_to(exemptions, cases, whole=built and not choice.gtests)


def gtests(preset, part, choice, left=()):
    """The unit tests, built by `preset`. Those that `left` covers are not run."""
    failed = build(preset, part, ["--configure-only"])
    if failed:
        return failed
    listed = subprocess.run(["ctest", "--test-dir", f"build/{preset}", "--show-only=json-v1"], cwd=ROOT, check=True,
                            stdout=subprocess.PIPE).stdout
    # cmake/layer.cmake: test NAME is program NAME_test. (ctest knows the command only once it is built.)
    programs = [f"{test['name']}_test" for test in json.loads(listed)["tests"]]
    unknown = choice.programs - set(programs) - set(fuzz_targets())
    if unknown:
        return [Case(f"no such test program: {' '.join(sorted(unknown))}", "failed", "see src/*/")]
    if choice.programs:
        programs = [name for name in programs if name in choice.programs]
    # dev builds the programs too, so that g++'s warnings are seen at -O1 as well.
    failed = build(preset, part, programs if preset != "dev" or choice.programs else [])
    if failed:
        return failed
    chosen = ":".join(choice.gtests) or "*"

    def one(name):
        log = LOGS / part / f"{name}.log"
        command = [*launcher(preset), ROOT / "build" / preset / "bin" / name]
        not_run = [exemption for exemption in left if exemption.program == name]
        unwanted = ":".join(exemption.pattern for exemption in not_run)
        wanted = f"{chosen}{':' if '-' in chosen else '-'}{unwanted}" if unwanted else chosen
        code = run([*command, "--gtest_color=no", f"--gtest_filter={wanted}"], log, part, PROGRAM_LIMIT, SANITIZER_OPTIONS)
        cases = parse_gtest(log.read_text(errors="replace"), name, code, log)
        if not_run:
            listing = subprocess.run([*command, "--gtest_list_tests", f"--gtest_filter={chosen}"], cwd=ROOT, text=True,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout
            names = [f"{name} {test}" for test in parse_gtest_list(listing)]
            cases += [Case(test, "skipped", exemption.reason) for test in names for exemption in not_run if exemption.covers(test)]
        return cases

    return in_parallel(one, programs)


def fuzz_targets():
    return sorted(p.stem for p in source.cxx_files(ROOT, ("src",)) if p.name.endswith("_fuzz.cc"))


def fuzz_command(program, target, seconds, scratch, log):
    corpus = ROOT / "fuzz/corpus" / target
    dictionary = ROOT / "fuzz" / f"{target}.dict"
    return [program, f"-max_total_time={seconds}", "-timeout=25", "-rss_limit_mb=2048", "-print_final_stats=1",
            f"-artifact_prefix={log.parent}/{target}-", *([f"-dict={dictionary}"] if dictionary.exists() else []),
            scratch, *([corpus] if corpus.is_dir() else [])]


def fuzz(choice):
    targets = [t for t in fuzz_targets() if not choice.programs or t in choice.programs]
    if not targets:
        return []
    failed = build("fuzz", "fuzz", targets)
    if failed:
        return failed
    seconds = LONG_FUZZ_EACH if choice.long else max(5, min(FUZZ_EACH, FUZZ_TOTAL * JOBS // len(targets)))

    def one(target):
        log = LOGS / "fuzz" / f"{target}.log"
        with tempfile.TemporaryDirectory(prefix="strato-fuzz-") as scratch:
            log.parent.mkdir(parents=True, exist_ok=True)
            argv = fuzz_command(ROOT / "build/fuzz/bin" / target, target, seconds, scratch, log)
            code = run(argv, log, f"fuzz: {target}", seconds + 120, SANITIZER_OPTIONS)
        name = f"{target} {seconds} s"
        return [Case(name, "passed") if code == 0 else Case(f"{name} ({ending(code)})", "failed", relative(log))]

    return in_parallel(one, targets)


def mutants(choice):
    """Each patch of fuzz/mutants/TARGET--WHAT.patch takes a check away; its target must notice."""
    tree = LOGS / "mutants/tree"
    cases = []
    for patch in sorted((ROOT / "fuzz/mutants").glob("*.patch")):
        target = patch.name.split("--")[0]
        if choice.programs and target not in choice.programs:
            continue
        log = LOGS / "mutants" / f"{patch.stem}.log"
        for folder in ("src", "fuzz", "testing", "cmake", "tools"):
            shutil.rmtree(tree / folder, ignore_errors=True)
        for path in source.files():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, tree / path)
        name = f"mutant {patch.stem} is found"
        code = run(["patch", "-p1", "-i", patch], log, "mutants", 60, cwd=tree)
        code = code or run(["tools/build", "fuzz", target], log, f"mutants: build {patch.stem}", BUILD_LIMIT, cwd=tree, append=True)
        if code != 0:
            cases.append(Case(f"{name}: it does not apply or build", "failed", relative(log)))
            continue
        with tempfile.TemporaryDirectory(prefix="strato-fuzz-") as scratch:
            argv = fuzz_command(tree / "build/fuzz/bin" / target, target, MUTANT_LIMIT, scratch, log)
            start = time.monotonic()
            code = run(argv, log, f"mutants: {patch.stem}", MUTANT_LIMIT + 120, SANITIZER_OPTIONS, append=True)
        found = code not in (0, None) and "SUMMARY: " in log.read_text(errors="replace")
        cases.append(Case(f"{name} ({time.monotonic() - start:.0f} s)", "passed" if found else "failed", relative(log)))
    return cases


def coverage(choice):
    """Each parser of tools/coverage by the stored corpus of its fuzz target alone."""
    log = LOGS / "coverage.log"
    targets = [target for target in fuzz_targets() if target in choice.programs]
    code = run(["tools/coverage", "--check", *targets], log, "coverage", BUILD_LIMIT)
    return parse_coverage(log.read_text(errors="replace"), code, log)


def parse_coverage(text, code, log):
    cases = [Case(f"{target} reaches {name}: {percent} %", "failed" if low else "passed", relative(log))
             for target, name, percent, low in re.findall(r"(?m)^(\w+_fuzz) +(\S+) +([0-9.]+) % +of \d+ lines(: too few)?$", text)]
    if not cases or code != (1 if any(case.status == "failed" for case in cases) else 0):
        cases.append(Case(f"tools/coverage ({ending(code)})", "failed", relative(log)))
    return cases


def parse_junit(report, log):
    cases = []
    for node in xml.etree.ElementTree.parse(report).iter("testcase"):
        if node.get("name") is None:
            continue  # it was under way when pytest was told to end
        name = f"{node.get('classname')}::{node.get('name')}"
        skipped = node.find("skipped")
        failure = node.find("failure") if node.find("error") is None else node.find("error")
        if failure is not None:
            said = (failure.text or failure.get("message", ""))[-SAID_CHARACTERS:]
            cases.append(Case(name, "failed", relative(log), said=f"{said}\n(after {float(node.get('time', 0)):.0f} s)"))
        elif skipped is not None:
            cases.append(Case(name, "skipped", skipped.get("message", "")))
        else:
            cases.append(Case(name, "passed"))
    return cases


def parse_verbose(text):
    """(name, status) of each test that pytest -v tells of: "NAME WORD", and "[gw0] [ 10%] WORD NAME" of parallel workers."""
    statuses = {"PASSED": "passed", "SKIPPED": "skipped", "FAILED": "failed", "ERROR": "failed"}
    words = "|".join(statuses)
    lines = re.findall(rf"(?m)^(\S+::\S.*?) ({words})\b", text)
    lines += [(name, word) for word, name in re.findall(rf"(?m)^\[gw\d+\] \[ *\d+%\] ({words}) (\S+::\S.*?) *$", text)]
    return [(name, statuses[word]) for name, word in lines]


class Beds:
    """The beds of this run: each is started when a part wants it, and serves the next one too."""

    def __init__(self):
        self._folders = {}

    def get(self, arch):
        """Its folder, or None when it does not start."""
        if arch not in self._folders:
            started = subprocess.run(["tools/with-kvm", "--start", "--arch", arch, "--owner", str(os.getpid())], cwd=ROOT, text=True,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            if started.returncode != 0:
                return None
            self._folders[arch] = started.stdout.strip()
        return self._folders[arch]

    def stop(self):
        for bed in self._folders.values():
            subprocess.run(["tools/with-kvm", "--bed", bed, "--stop"], cwd=ROOT, stdin=subprocess.DEVNULL)
            shutil.rmtree(bed, ignore_errors=True)
        self._folders.clear()


beds = Beds()
NO_BED = [Case("start of the bed", "failed", "see above")]


def arm_environment(choice, scale):
    """For tests of the VMM that was built for arm64."""
    built = ROOT / "build/aarch64-release"
    return {"STRATOVIRT": str(built / "bin/stratovirt"), "STRATO_GUESTS": str(built / "guests"),
            "STRATO_TIMEOUT_SCALE": os.environ.get("STRATO_TIMEOUT_SCALE", scale), **({"STRATO_LONG": "1"} if choice.long else {})}


def arm_build(part):
    return build("aarch64-release", part, ["stratovirt", "guests", "platform_harness"])


def arm_linux_tests(choice):
    """tests/linux with the VMM for arm64."""
    part = "linux-aarch64"
    failed = arm_build(part)
    if failed:
        return failed
    bed = beds.get("aarch64")
    if not bed:
        return NO_BED
    paths = [p for p in choice.paths if p.startswith("tests/linux")] or ["tests/linux"]
    env = {**arm_environment(choice, "2"), "STRATO_BED": bed}
    return pytest_cases(part, [], LOGS / f"{part}.xml", paths, choice, env)


def arm_payload_tests(choice):
    """The tests with guests of our own, inside an arm64 bed, as many at a time as there are processors."""
    part = "payload-aarch64"
    failed = arm_build(part)
    if failed:
        return failed
    bed = beds.get("aarch64")
    if not bed:
        return NO_BED
    there = sorted(relative(path) for folder in IN_ARM_BED for path in (ROOT / "tests" / folder).glob("test_*.py"))
    paths = [p for p in choice.paths if p.split("/")[1] in IN_ARM_BED] or (there if choice.long else IN_ARM_BED_ALWAYS)
    env = {**arm_environment(choice, "5"), "STRATO_BED": bed}
    # O_DIRECT needs a file system on a disk.
    there_first = ["tools/with-kvm", "sh", "-c", 'TMPDIR=$STRATO_SCRATCH_DISK exec "$@"', "sh"]

    def some(group):
        report = pathlib.Path(bed) / "scratch" / f"{part}-{group}.xml"
        return pytest_cases(f"{part}-{group}", there_first, report, paths[group::JOBS], choice, env)

    cases = in_parallel(some, range(min(JOBS, len(paths))))
    if not choice.long and not choice.paths:
        cases += [Case(path, "skipped", "the time of a whole run does not allow it: only in tools/test --long", "the other files")
                  for path in there if path not in IN_ARM_BED_ALWAYS]
    return cases


def python_tests(folder, choice):
    part = folder.name
    if part == "tools":  # they run nothing of ours
        failed = []
    elif part == "boot":  # what writes the tables; in a whole run asan has built it already
        failed = build("asan", part, ["boot_test"])
    else:
        failed = build("release", part)
    if failed:
        return failed
    paths = [p for p in choice.paths if p.startswith(f"tests/{part}")] or [relative(folder)]
    env = {"STRATO_LONG": "1"} if choice.long else {}
    if part == "payload":  # two busy vCPUs take a third of the usual limit on a quiet machine that emulates KVM
        env["STRATO_TIMEOUT_SCALE"] = os.environ.get("STRATO_TIMEOUT_SCALE", "3")
    # The Linux tests start their guests side by side themselves; those of one file of the tools may share a bed.
    workers = {"linux": [], "tools": ["-n", str(JOBS), "--dist=loadfile"]}.get(part, ["-n", str(JOBS)])
    if part == "linux" and "STRATO_BED" not in os.environ:
        bed = beds.get(os.uname().machine)
        if not bed:
            return NO_BED
        env["STRATO_BED"] = bed
    return pytest_cases(part, [], LOGS / f"{part}.xml", [*workers, *paths], choice, env)


def pytest_cases(part, launch, report, arguments, choice, env):
    """Runs pytest, behind the words of `launch`, which writes the report."""
    log = LOGS / f"{part}.log"
    report.unlink(missing_ok=True)
    code = run([*launch, "/usr/bin/python3", "-B", "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", f"--junitxml={report}",
                *arguments], log, part, PYTEST_LIMIT * (4 if choice.long else 1), env)
    if report.exists():
        cases = parse_junit(report, log)
    else:
        cases = [Case(name, status, relative(log)) for name, status in parse_verbose(log.read_text(errors="replace"))]
    text = log.read_text(errors="replace")
    if code is None or (code != 0 and not any(case.status == "failed" for case in cases)):
        cases.append(Case(f"pytest {part} ({ending(code)})", "failed", relative(log), said=text[-SAID_CHARACTERS:]))
    for warning in re.findall(r"(?m)^ *UserWarning: (repeated.*)$", text):
        progress.say(f"  {part}: {warning}")
    return cases


# --- choosing and counting ---------------------------------------------------------------------------------------

@dataclasses.dataclass
class Choice:
    long: bool = False
    parts: set = dataclasses.field(default_factory=set)
    programs: set = dataclasses.field(default_factory=set)
    gtests: list = dataclasses.field(default_factory=list)
    paths: list = dataclasses.field(default_factory=list)


def all_parts(long):
    parts = {"presubmit": presubmit,
             "unit": lambda choice: gtests("dev", "unit", choice),
             "asan": lambda choice: gtests("asan", "asan", choice),
             "tsan": lambda choice: gtests("tsan", "tsan", choice),
             "aarch64": emulated_gtests,
             "fuzz": fuzz}
    folders = {path.parent for path in (ROOT / "tests").glob("*/test_*.py")}
    # The slowest last, so that its failures are not what hides the others.
    for folder in sorted(folders, key=lambda f: ({"payload": 0, "tools": 2, "linux": 3}.get(f.name, 1), f.name)):
        parts[folder.name] = lambda choice, folder=folder: python_tests(folder, choice)
    parts["linux-aarch64"] = arm_linux_tests
    parts["payload-aarch64"] = arm_payload_tests
    if os.uname().machine == "aarch64":  # what the others are there
        parts = {name: part for name, part in parts.items() if not name.endswith("aarch64")}
    if long:
        parts["mutants"] = mutants
        parts["coverage"] = coverage
    return parts


def choose(names, parts, long):
    choice = Choice(long=long)
    for name in names:
        if name in parts:
            choice.parts.add(name)
        elif name.endswith("_test"):
            choice.programs.add(name)
            choice.parts.add("unit")
        elif name.endswith("_fuzz"):
            choice.programs.add(name)
            choice.parts.add("fuzz")
        elif name.startswith("tests/") and len(name.split("/")) > 2 and name.split("/")[1] in parts:
            choice.paths.append(name)
            choice.parts.add(name.split("/")[1])
        elif "." in name or "*" in name:
            choice.gtests.append(name)
            choice.parts.add("unit")
        else:
            sys.exit(f"tools/test: no such part or program: {name} (parts: {' '.join(parts)})")
    # `tools/test linux-aarch64 tests/linux/test_boot.py`: the same for paths.
    for part, folders in (("linux-aarch64", {"linux"}), ("payload-aarch64", set(IN_ARM_BED))):
        if part in choice.parts and choice.paths:
            choice.parts -= folders - set(names)
    # `tools/test asan memory_test`: that program in that part.
    if choice.programs and choice.parts & {"asan", "tsan", "aarch64"} and "unit" not in names:
        choice.parts.discard("unit")
    if not names:
        choice.parts = set(parts) if long else set(parts) - ONLY_BY_NAME
    return choice


def report(results):
    """Prints the tables; the exit code."""
    counts = {status: 0 for status in ("passed", "failed", "skipped")}
    print(f"\n{'part':<16}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>9}")
    for part, (cases, seconds) in results.items():
        row = {status: sum(case.status == status for case in cases) for status in counts}
        print(f"{part:<16}{row['passed']:>8}{row['failed']:>8}{row['skipped']:>9}{seconds:>7.0f} s")
        for status in counts:
            counts[status] += row[status]
    for status, title in (("skipped", "Skipped, and why:"), ("failed", "Failed, and the log:")):
        found = [(part, case) for part, (cases, _) in results.items() for case in cases if case.status == status]
        if found:
            print(f"\n{title}")
        lines = [f"  {part}: {case.group or case.name}: {case.note or 'no reason given'}" for part, case in found]
        for line in dict.fromkeys(lines):
            many = lines.count(line)
            print(line + (f" ({many} tests)" if many > 1 else ""))
    for part, (cases, _) in results.items():
        for case in cases:
            if case.status == "failed" and case.said:
                print(f"\n{part}: {case.name} said at its end:\n{case.said}")
    tail = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"\n{counts['passed']} passed, {counts['failed']} failed{tail}", flush=True)
    return 0 if counts["failed"] == 0 and counts["passed"] > 0 else 1


def main():
    parser = argparse.ArgumentParser(prog="tools/test", description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true",
                        help=f"also what takes hours: {LONG_FUZZ_EACH} s of fuzzing each, mutants, the coverage of the parsers, "
                             "soaks ($STRATO_LONG for tests)")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A shell that starts us in the background ignores these, and so would every program under test.
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parts = all_parts(options.long)
    choice = choose(options.names, parts, options.long)
    results = {}
    for part, function in parts.items():
        if part not in choice.parts:
            continue
        progress.say(f"{part} ...")
        start = time.monotonic()
        cases = function(choice)
        results[part] = (cases, time.monotonic() - start)
        failed = sum(case.status == "failed" for case in cases)
        progress.say(f"{part}: {len(cases)} cases, {failed} failed, {results[part][1]:.0f} s")
        for case in cases:
            if case.status == "failed":
                progress.say(f"  FAILED {case.name}: {case.note}")
    return report(results)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        stop_children()
        beds.stop()
