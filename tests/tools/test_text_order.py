"""tools/text-order reads a map of ld's, and names sections as a linker script does."""
import importlib.machinery
import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
loader = importlib.machinery.SourceFileLoader("text_order", str(ROOT / "tools/text-order"))
text_order = importlib.util.module_from_spec(importlib.util.spec_from_loader("text_order", loader))
loader.exec_module(text_order)

MAP = """\
Discarded input sections

 .text          0x0000000000000000        0x0 /usr/lib/crti.o

Linker script and memory map

 .text.startup.main
                0x0000000000002320     0x24d6 /tmp/cc07.ltrans0.ltrans.o
 .text          0x0000000000001240       0x22 /usr/lib/x86_64-linux-gnu/libc.a(malloc.o)
 .text          0x0000000000001262        0x0 /usr/lib/x86_64-linux-gnu/libc.a(empty.o)
 .rodata        0x0000000000009000       0x10 /tmp/cc07.ltrans0.ltrans.o
"""


def test_the_code_of_a_map_is_found_and_sorted():
    assert text_order.sections_of(MAP) == [(0x1240, 0x22, ".text", "/usr/lib/x86_64-linux-gnu/libc.a(malloc.o)"),
                                           (0x2320, 0x24d6, ".text.startup.main", "/tmp/cc07.ltrans0.ltrans.o")]


def test_a_section_of_a_library_is_named_with_its_member():
    assert text_order.pattern(".text.evex", "/usr/lib/libc.a(memmove-evex.o)") == "*libc.a:memmove-evex.o(.text.evex)"


def test_a_function_is_named_whatever_clone_of_it_the_compiler_makes():
    line = "*(.text._ZN1a1bEv .text._ZN1a1bEv.constprop.* .text._ZN1a1bEv.isra.* .text._ZN1a1bEv.part.* .text._ZN1a1bEv.lto_priv.*)"
    for clone in ("", ".constprop.0", ".isra.0", ".lto_priv.3", ".part.0.constprop.1"):
        assert text_order.pattern(f".text._ZN1a1bEv{clone}", "/tmp/cc07.ltrans4.ltrans.o") == line


def test_what_comes_with_the_compiler_stays_where_it_is():
    assert text_order.pattern(".text", "/usr/lib/gcc/crtbeginS.o") is None
