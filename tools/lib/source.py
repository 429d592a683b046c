"""The project's source files, and C++ text without what is not code. Shared by the checks of tools/."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CXX = (".h", ".cc")
TEST_SUFFIXES = ("_test.cc", "_fuzz.cc", "_bench.cc")


def files(root=ROOT):
    """Files of the tree, relative to `root` and sorted: what git knows or would add; without git, all but build/."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
    else:
        names = [str(p.relative_to(root)) for p in pathlib.Path(root).rglob("*")]
    paths = (pathlib.PurePosixPath(name) for name in sorted(set(names)) if name)
    return [p for p in paths if p.parts[0] not in ("build", ".git") and (root / p).is_file()]


def cxx_files(root=ROOT, folders=("src", "testing")):
    return [p for p in files(root) if p.suffix in CXX and p.parts[0] in folders]


def is_test(path):
    return str(path).endswith(TEST_SUFFIXES) or path.parts[0] == "testing"


_NOT_CODE = re.compile(
    r"""//[^\n]*"""
    r"""|/\*.*?\*/"""
    r"""|R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)\""""
    r"""|"(?:\\.|[^"\\\n])*\""""
    r"""|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""",
    re.DOTALL | re.VERBOSE)


def code_only(text):
    """`text` with comments and the insides of literals blanked; every line keeps its number."""

    def blank(match):
        found = match.group(0)
        kept = re.sub(r"[^\n]", " ", found)
        return kept if found[0] == "/" else '"' + kept[1:-1] + '"' if len(kept) > 1 else kept

    return _NOT_CODE.sub(blank, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1
