"""Runs the checks of the source, remembering what has passed unchanged, for all checkouts of a user (as ccache does)."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import source

ROOT = source.ROOT
MEMORY = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "stratovirt/presubmit.json"
REMEMBERED_DAYS = 30
DATABASE = ROOT / "build/clang"
TIDY = "clang-tidy-19"
FORMAT = "clang-format-19"
# Tests run under the sanitizers; all checks together take them four times as long as warnings and names.
TIDY_OF_TESTS = ["--checks=-bugprone-*,-performance-*,-misc-*,-modernize-*,-clang-analyzer-*"]
# For files without an entry in compile_commands.json: headers, fuzz targets.
FLAGS = ["-std=gnu++23", f"-I{ROOT}/src", f"-I{ROOT}", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-fno-exceptions",
         "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64"]


class Tree:
    """The files of the tree, and which of them each one includes."""

    def __init__(self):
        self.files = source.cxx_files(ROOT, ("src", "testing", "guests", "bench", "fuzz", "tests"))
        self._texts = {}
        self._closures = {}

    def text(self, path):
        if path not in self._texts:
            self._texts[path] = (ROOT / path).read_bytes()
        return self._texts[path]

    def closure(self, path):
        """`path` and every file of the tree that it includes, directly or not."""
        if path not in self._closures:
            seen, todo = set(), [path]
            while todo:
                current = todo.pop()
                if current in seen:
                    continue
                seen.add(current)
                for name in re.findall(rb'^\s*#\s*include\s*"([^"]+)"', self.text(current), re.MULTILINE):
                    for base in (pathlib.PurePosixPath("src"), pathlib.PurePosixPath("."), current.parent):
                        if (ROOT / base / name.decode()).is_file():
                            todo.append(base / name.decode())
                            break
            self._closures[path] = seen
        return self._closures[path]

    def digest(self, path, *extra):
        # The same for a checkout at another place.
        state = hashlib.sha256("\0".join(extra).replace(str(ROOT), "").encode())
        for file in sorted(self.closure(path)):
            state.update(str(file).encode() + b"\0" + self.text(file) + b"\0")
        return state.hexdigest()


class Memory:
    """What has passed: check, file and digest, with the day on which that was asked last."""

    def __init__(self):
        self.today = int(time.time() // 86400)
        self.passed = self.read()

    @staticmethod
    def read():
        try:
            return {key: day for key, day in json.loads(MEMORY.read_text()).items() if isinstance(day, int)}
        except (OSError, ValueError, AttributeError):
            return {}

    def knows(self, check, path, digest):
        key = f"{check} {path} {digest}"
        if key in self.passed:
            self.passed[key] = self.today
        return key in self.passed

    def keep(self, check, path, digest):
        self.passed[f"{check} {path} {digest}"] = self.today

    def save(self):
        # Others may have saved meanwhile.
        passed = {key: day for key, day in {**self.read(), **self.passed}.items() if day > self.today - REMEMBERED_DAYS}
        MEMORY.parent.mkdir(parents=True, exist_ok=True)
        fresh = MEMORY.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(passed, indent=0, sort_keys=True))
        fresh.replace(MEMORY)


def run(argv, **options):
    return subprocess.run([str(word) for word in argv], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **options)


def each(memory, check, work):
    """Runs `work`, a list of (path, digest, argv, input), on all processors; the output of those that failed."""
    todo = [job for job in work if not memory.knows(check, job[0], job[1])]
    outputs = []

    def one(job):
        return job, run(job[2], input=job[3])

    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        for count, (job, done) in enumerate(pool.map(one, todo), 1):
            if sys.stdout.isatty():
                print(f"\r{check}: {count} of {len(todo)} \x1b[K", end="", flush=True)
            elif count % 25 == 0:
                print(f"{check}: {count} of {len(todo)}", flush=True)
            if done.returncode == 0:
                memory.keep(check, job[0], job[1])
            else:
                outputs.append(f"{done.stdout.strip() or f'{job[0]}: exit code {done.returncode}'}\n")
    finally:
        pool.shutdown(cancel_futures=True)
    if sys.stdout.isatty() and todo:
        print("\r\x1b[K", end="")
    return outputs


def of_this_machine(path):
    """Not a file of another architecture, nor one that only a freestanding or release build can compile."""
    if path.parts[0] not in ("src", "testing"):
        return False
    # As cmake/layer.cmake: aarch64.cc, aarch64_*.cc.
    named = re.match(r"(x86_64|aarch64)(?:_|\.)", path.name)
    if named and named.group(1) != os.uname().machine:
        return False
    if path.parts[:2] != ("src", "arch") or len(path.parts) == 3 or path.parts[2] == os.uname().machine:
        return True
    # As cmake/layer.cmake's strato_foreign_arch().
    return path.parts[2] == "aarch64" and not path.name.startswith("platform")


def check_format(tree, memory, wanted):
    files = [p for p in tree.files if wanted(p)]
    done = run([FORMAT, "--dry-run", "-Werror", *files]) if files else None
    if not done or done.returncode == 0:
        return []
    unformatted = sorted(set(re.findall(r"(?m)^(\S+?):\d+:\d+: error", done.stdout)))
    return [f"{name}: format: not as .clang-format says; mend it with {FORMAT} -i {name}\n" for name in unformatted] or [
        done.stdout]


def check_layers(tree, memory, wanted):
    done = run(["tools/check_layers"])
    return [done.stdout] if done.returncode else []


def check_style(tree, memory, wanted):
    done = run(["tools/check_style"])
    return [done.stdout] if done.returncode else []


def included_first(tree):
    """Headers that some source file includes before all else: its compilation shows that they stand alone."""
    firsts = (re.search(rb'^\s*#\s*include\s*["<]([^">]+)[">]', tree.text(p), re.MULTILINE)
              for p in tree.files if p.suffix == ".cc" and of_this_machine(p))
    return {pathlib.PurePosixPath("src") / found.group(1).decode() for found in firsts if found}


def check_headers(tree, memory, wanted):
    version = run(["g++", "--version"]).stdout
    shown = included_first(tree)
    work = []
    for path in tree.files:
        if path.suffix == ".h" and path not in shown and of_this_machine(path) and wanted(path):
            name = path.relative_to("src") if path.parts[0] == "src" else path
            argv = ["g++", "-fsyntax-only", *FLAGS, "-x", "c++", "-"]
            work.append((path, tree.digest(path, version, *argv), argv, f'#include "{name}"\n'))
    return each(memory, "headers", work)


def check_tidy(tree, memory, wanted):
    config = (ROOT / ".clang-tidy").read_text() + run([TIDY, "--version"]).stdout
    database = {entry["file"]: entry["command"] for entry in json.loads((DATABASE / "compile_commands.json").read_text())}
    work = []
    for path in tree.files:
        if path.suffix != ".cc" or not of_this_machine(path) or not wanted(path):
            continue
        command = database.get(str(ROOT / path))
        argv = [TIDY, "--quiet", "--use-color=false", *(TIDY_OF_TESTS if source.is_test(path) else [])]
        argv += ["-p", DATABASE, path] if command else [path, "--", *FLAGS]
        work.append((path, tree.digest(path, config, command or "", *map(str, argv)), argv, None))
    # The longest first, so that no processor waits at the end for a test file that came last.
    work.sort(key=lambda job: (not source.is_test(job[0]), -len(tree.text(job[0]))))
    blocks, seen = [], set()
    for output in each(memory, "tidy", work):
        # A finding in a header comes once for each file that includes it.
        for block in re.split(r"(?m)^(?=\S+:\d+:\d+: (?:error|warning))", output):
            block = re.sub(r"(?m)^(?:\d+ warnings?.*(?:generated|treated as errors).*|Error while processing .*)\n?", "", block)
            if block.strip() and block not in seen:
                seen.add(block)
                blocks.append(block)
    return blocks


CHECKS = {"format": check_format, "layers": check_layers, "style": check_style, "headers": check_headers,
          "tidy": check_tidy}


def changed_files():
    listed = run(["git", "diff", "--name-only", "HEAD"]).stdout + run(
        ["git", "ls-files", "-o", "--exclude-standard"]).stdout
    return {pathlib.PurePosixPath(name) for name in listed.splitlines()}


def main():
    tree, memory = Tree(), Memory()
    changed = changed_files() if "--changed" in sys.argv else None
    failed = 0
    try:
        for name, check in CHECKS.items():
            start = time.monotonic()
            outputs = check(tree, memory, lambda p: changed is None or not changed.isdisjoint(tree.closure(p)))
            print("".join(outputs), end="")
            print(f"{'FAIL' if outputs else 'PASS'} presubmit.{name} ({time.monotonic() - start:.1f} s)", flush=True)
            failed += bool(outputs)
    finally:
        memory.save()
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
