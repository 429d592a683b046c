"""Each rule of tools/check_layers, tools/check_style and .clang-tidy is seen to refuse a small bad file."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/lib"))
import presubmit  # noqa: E402

TABLE = """
strato_layer(base LIBS fmt::fmt)
strato_layer(event DEPS base)
strato_layer(bus DEPS base)
strato_layer(hypervisor SUBDIR hypervisor/kvm DEPS base bus)
strato_layer(virtio DEPS base bus)
strato_layer(devices DEPS base bus virtio)
strato_layer(arch SUBDIR arch/${STRATO_ARCH} DEPS base hypervisor)
strato_layer(machine DEPS base bus hypervisor virtio devices arch)
"""
HEADERS = ["base/result.h", "bus/bus.h", "hypervisor/kvm/vm.h", "virtio/queue.h", "devices/serial.h", "arch/platform.h",
           "arch/x86_64/cpuid.h", "machine/microvm.h"]


@pytest.fixture
def tree(tmp_path):
    """A clean little tree; `tree.add` puts one more file there, `tree.check` gives the findings."""

    class Tree:
        def add(self, name, text):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

        def check(self, tool):
            done = subprocess.run([ROOT / "tools" / tool, tmp_path], capture_output=True, text=True)
            assert done.stderr == ""
            assert (done.returncode == 0) == (done.stdout == "")
            return done.stdout

    made = Tree()
    made.add("src/CMakeLists.txt", TABLE)
    made.add("src/apps/CMakeLists.txt", "target_link_libraries(stratovirt PRIVATE strato_machine)")
    made.add("testing/fake.h", "#pragma once\n")
    for name in HEADERS:
        made.add(f"src/{name}", "#pragma once\n")
        made.add(f"src/{name.split('/')[0]}/README.md", "What lives here.\n")
    return made


@pytest.mark.parametrize("tool", ["check_layers", "check_style"])
def test_clean_tree_has_no_findings(tree, tool):
    assert tree.check(tool) == ""


ALLOWED_INCLUDES = [
    ("src/devices/a.cc", '#include "bus/bus.h"'),
    ("src/devices/a.cc", '#include "devices/serial.h"'),
    ("src/devices/a_test.cc", '#include "testing/fake.h"'),
    ("src/machine/a.cc", '#include "arch/platform.h"'),
    ("src/arch/x86_64/a.cc", '#include "arch/x86_64/cpuid.h"'),
    ("src/apps/stratovirt/main.cc", '#include "machine/microvm.h"'),
    ("src/arch/x86_64/a.cc", "#if defined(__x86_64__)\n#endif"),
    ("src/hypervisor/kvm/a.cc", "int f(int fd) { return ioctl(fd, KVM_RUN, 0); }"),
    ("src/bus/a.cc", "// ioctl(fd, KVM_RUN) is not called here"),
]


@pytest.mark.parametrize("name, line", ALLOWED_INCLUDES)
def test_layers_allow(tree, name, line):
    tree.add(name, line + "\n")
    assert tree.check("check_layers") == ""


REFUSED_INCLUDES = [
    ("src/devices/a.cc", '#include "hypervisor/kvm/vm.h"', "devices/ never includes hypervisor/"),
    ("src/virtio/a.h", '#include "devices/serial.h"', "virtio/ never includes devices/"),
    ("src/devices/a_test.cc", '#include "hypervisor/kvm/vm.h"', "devices/ never includes hypervisor/"),
    ("src/base/a.h", '#include "bus/bus.h"', "base/ may include only base, not bus/"),
    ("src/bus/a.cc", '#  include "machine/microvm.h"', "bus/ may include only base bus, not machine/"),
    ("src/bus/a.cc", '#include "testing/fake.h"', "testing/ is for tests"),
    ("src/bus/a.cc", '#include "bus.h"', 'a path from src/'),
    ("src/machine/a.cc", '#include "arch/x86_64/cpuid.h"', "no architecture is named"),
    ("src/machine/a.cc", "#ifdef __x86_64__", "no #if on the architecture"),
    ("src/machine/a.cc", "int f(int fd) { return ioctl(fd, KVM_RUN, 0); }", "only hypervisor/ calls"),
]


@pytest.mark.parametrize("name, line, message", REFUSED_INCLUDES)
def test_layers_refuse_naming_file_and_line(tree, name, line, message):
    tree.add(name, "#pragma once\n" + line + "\n")
    found = tree.check("check_layers")
    assert found.startswith(f"{name}:2: layers: ") and message in found


def test_layers_refuse_a_folder_that_is_no_layer(tree):
    tree.add("src/boot/a.cc", '#include "base/result.h"\n#include "base/result.h"\n')
    assert tree.check("check_layers") == "src/boot/a.cc:1: layers: src/boot/ is no layer of src/CMakeLists.txt\n"


def test_layers_refuse_a_table_that_lets_devices_use_the_hypervisor(tree):
    tree.add("src/CMakeLists.txt", TABLE.replace("devices DEPS base", "devices DEPS hypervisor base"))
    assert "devices/ may never depend on hypervisor/" in tree.check("check_layers")


ALLOWED_TRY = [
    "const int x = STRATO_TRY(f());",
    "x_ = STRATO_TRY(f());",
    "STRATO_TRY(f());",
    "*out = STRATO_TRY(f());",
    "slots_[index(3)].fd = STRATO_TRY(f());",
    "std::map<int, std::string> x = STRATO_TRY(f());",
    "const auto [a, b] = STRATO_TRY(f());",
    "if (ready) STRATO_TRY(f());",
    "if (ready) x = STRATO_TRY(f()); else STRATO_TRY(g());",
    "for (int i = 0; i < 3; ++i) STRATO_TRY(f(i));",
    "switch (x) { case Reg::Status: STRATO_TRY(f()); break; default: STRATO_TRY(g()); }",
    "const std::unique_ptr<Disk> disk =\n    STRATO_TRY(open_the_disk(\n        path, {.flags = 3}));",
    "STRATO_TRY(each([&](int i) -> Result<> { return f(i); }));",
    'STRATO_TRY(f("a ; b ) STRATO_TRY("));',
    "// return STRATO_TRY(f());",
    "#define MY_TRY(x) \\\n  wrap(STRATO_TRY(x))",
]
REFUSED_TRY = [
    "return STRATO_TRY(f());",
    "return Pair{STRATO_TRY(f()), 1};",
    "Pair p{H(), STRATO_TRY(f())};",
    "Pair p = {STRATO_TRY(f())};",
    "Files x{.data =\n    STRATO_TRY(f())};",
    "g(STRATO_TRY(f()));",
    "g(1,\n  STRATO_TRY(f()));",
    "const int x = STRATO_TRY(f()) + 1;",
    "const int x = 1 + STRATO_TRY(f());",
    "const int x = a ? STRATO_TRY(f()) : 0;",
    "const int x = STRATO_TRY(g(STRATO_TRY(f())));",
    "const int x = STRATO_TRY(f()).size();",
    "if (STRATO_TRY(f())) g();",
    "while (auto x = STRATO_TRY(f())) g(x);",
    "x += STRATO_TRY(f());",
    "const Big& x = STRATO_TRY(f());",
    "auto&& x = STRATO_TRY(f());",
    "a = b = STRATO_TRY(f());",
    "bool x = y == STRATO_TRY(f());",
    "(void)STRATO_TRY(f());",
]


@pytest.mark.parametrize("statement", ALLOWED_TRY)
def test_try_allows(tree, statement):
    tree.add("src/bus/a.cc", "Result<> h() {\n  " + statement + "\n  return {};\n}\n")
    assert tree.check("check_style") == ""


@pytest.mark.parametrize("statement", REFUSED_TRY)
def test_try_refuses(tree, statement):
    tree.add("src/bus/a.cc", "Result<> h() {\n  " + statement + "\n  return {};\n}\n")
    assert ": try: STRATO_TRY stands alone: " in tree.check("check_style")


REFUSED_STYLE = [
    ("src/devices/a.cc", 'log(LogLevel::Warn, "x");', "log"),
    ("src/virtio/a.h", 'strato::log(LogLevel::Warn, "x");', "log"),
    ("src/bus/a.cc", "return *result.value();", "value"),
    ("src/bus/a_test.cc", "EXPECT_EQ(result->value (), 3);", "value"),
    ("src/bus/a.cc", "std::thread worker(f);", "thread"),
    ("src/bus/a.h", "std::jthread worker_;", "thread"),
    ("src/bus/a.cc", "const int x = std::stoi(text);", "number"),
    ("src/bus/a.cc", "#include <iostream>", "iostream"),
    ("src/bus/a.cc", "return names.at(index);", "at"),
    ("src/bus/a.cc", "// TODO: later", "todo"),
    ("src/bus/a.cc", "// FIXME(me) later", "todo"),
    ("src/bus/a.cc", "std::thread worker(f);  // NOLINT(strato-thread):", "thread"),
    ("src/bus/a.cc", "std::thread worker(f);  // NOLINT(strato-at): wrong rule", "thread"),
]


@pytest.mark.parametrize("name, line, rule", REFUSED_STYLE)
def test_style_refuses_naming_file_line_and_rule(tree, name, line, rule):
    tree.add(name, "\n\n" + line + "\n")
    assert tree.check("check_style").startswith(f"{name}:3: {rule}: ")


ALLOWED_STYLE = [
    ("src/devices/a.cc", 'log_guest(LogLevel::Warn, "x");'),
    ("src/devices/a_test.cc", 'log(LogLevel::Warn, "x");'),
    ("src/bus/a.cc", 'log(LogLevel::Warn, "x");'),
    ("src/devices/a.cc", "dirty_.log(3);"),
    ("src/bus/a.cc", "return result.value_or(3);"),
    ("src/bus/a.cc", 'fmt::format("std::thread .value() {}", x);  // std::stoi(x)'),
    ("src/bus/a.cc", "std::this_thread::yield();"),
    ("src/bus/a_test.cc", "EXPECT_EQ(bytes.at(3), 1);"),
    ("src/bus/a.cc", "// TODO(#12): later"),
    ("src/bus/a.cc", "std::thread worker(f);  // NOLINT(strato-thread): the reason"),
]


@pytest.mark.parametrize("name, line", ALLOWED_STYLE)
def test_style_allows(tree, name, line):
    tree.add(name, line + "\n")
    assert tree.check("check_style") == ""


def test_style_refuses_a_folder_without_readme_and_a_long_one(tree):
    tree.add("src/boot/elf.h", "#pragma once\n")
    tree.add("src/bus/README.md", "line\n" * 16)
    assert tree.check("check_style").splitlines() == [
        "src/boot/README.md:1: readme: missing: what lives here, what does not, where to start reading",
        "src/bus/README.md:16: readme: at most 15 lines"]


def test_files_of_another_architecture_are_left_to_its_machines():
    here = os.uname().machine
    other = "aarch64" if here == "x86_64" else "x86_64"
    for name, mine in [(f"src/disk/{here}.cc", True), (f"src/disk/{other}.cc", False), (f"src/disk/{other}_gic.h", False),
                       (f"src/disk/to_{other}.cc", True), (f"src/arch/{here}/a.cc", True), (f"src/arch/{other}/platform.cc", False)]:
        assert presubmit.of_this_machine(pathlib.PurePosixPath(name)) == mine, name


def test_what_is_pure_of_aarch64_is_every_machines():
    here = os.uname().machine
    assert presubmit.of_this_machine(pathlib.PurePosixPath("src/arch/aarch64/machine_map.cc"))
    assert presubmit.of_this_machine(pathlib.PurePosixPath("src/arch/aarch64/platform_gic.cc")) == (here == "aarch64")


TIDY = [
    ("struct lower {};", "readability-identifier-naming"),
    ("void LikeThis() {}", "readability-identifier-naming"),
    ("class Box { int size = 0; };", "readability-identifier-naming"),
    ("constexpr int limit = 3;", "readability-identifier-naming"),
    ("enum class Colour { kRed };", "readability-identifier-naming"),
    ("#define SHORT 1", "readability-identifier-naming"),
    ("int f(int* p) { if (p == nullptr) return *p; return 0; }", "clang-analyzer-core.NullDereference"),
    ("int* f() { return 0; }", "modernize-use-nullptr"),
    ("struct A { virtual void f(); };\nstruct B : A { virtual void f(); };", "modernize-use-override"),
    ("#include <string>\n#include <utility>\nbool f(std::string s) { std::string t = std::move(s); return s.empty() && t.empty(); }",
     "bugprone-use-after-move"),
    ('#include "base/mutex.h"\nclass A { strato::Mutex mutex_; int x_ STRATO_GUARDED_BY(mutex_) = 0;\n'
     "  public: int x() const { return x_; } };", "clang-diagnostic-thread-safety-analysis"),
    ("int f(int x) { int y = x; { int y = 3; x += y; } return x + y; }", "clang-diagnostic-shadow"),
]


@pytest.mark.skipif(shutil.which("clang-tidy-19") is None, reason="clang-tidy-19 is not installed")
@pytest.mark.parametrize("code, check", TIDY)
def test_tidy_refuses(tmp_path, code, check):
    (tmp_path / "a.cc").write_text(code + "\n")
    done = subprocess.run(
        ["clang-tidy-19", "--quiet", f"--config-file={ROOT}/.clang-tidy", tmp_path / "a.cc", "--", "-std=gnu++23",
         f"-I{ROOT}/src", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wthread-safety", "-fno-exceptions"],
        capture_output=True, text=True)
    assert done.returncode != 0 and check in done.stdout
