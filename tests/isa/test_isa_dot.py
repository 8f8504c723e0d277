"""Graphs of machine code: the blocks and ways a reader of the listing would draw."""

from tracebee.isa.asm import assemble
from tracebee.isa.dot import code_dot

LOOP = (
    "r1 = 0x1122334455667788\nagain: \nr1 += -1\nif r1 != 0 goto again\n"
    "gotol out\nr0 = 1\nout: \nr0 = 0\nexit"
)


def _ways(graph: str) -> list[str]:
    return [line.strip() for line in graph.splitlines() if "->" in line]


def test_a_loop_with_a_wide_load_and_a_long_jump() -> None:
    assert _ways(code_dot("f", assemble(LOOP))) == [
        '"0" -> "2";',
        '"2" -> "2" [label=yes];',
        '"2" -> "4" [label=no];',
        '"4" -> "6";',
        '"5" -> "6";',
    ]


def test_a_whole_graph() -> None:
    assert code_dot('a "name"', assemble("r0 = *(u32 *)(r1 +8)\nexit")) == (
        'digraph "a \\"name\\"" {\n'
        '  node [shape=box, fontname="monospace", fontsize=10];\n'
        '  "0" [label="0: r0 = *(u32 *)(r1 +8)\\l1: exit\\l"];\n'
        "}\n"
    )


def test_functions_begin_blocks_of_their_own() -> None:
    code = assemble("call 7\nexit\nr0 = 1\nr0 = 2\nexit")
    graph = code_dot("f", code, ["one", "two", "three", "four", "five"], heads={3})
    assert [line.strip() for line in graph.splitlines() if "label=" in line] == [
        '"0" [label="0: one\\l1: two\\l"];',
        '"2" [label="2: three\\l"];',
        '"3" [label="3: four\\l4: five\\l"];',
    ]
    assert _ways(graph) == ['"2" -> "3";']
