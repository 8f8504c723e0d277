"""Folded stacks, the layout of flame graphs, and their SVG."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import DecodeError
from tracebee.stacks import fold, svg
from tracebee.stacks.flamegraph import Box, chart, layout, reverse, top_edges

# The synthetic profile that the book "BPF Performance Tools" explains flame graphs with (figures 2-7, 2-8).
PROFILE = {("a", "b", "c"): 7, ("a", "b"): 2, ("a", "b", "d", "e"): 1}


def test_the_books_flame_graph() -> None:
    assert sorted(layout(PROFILE), key=lambda box: (box.depth, box.start)) == [
        Box("a", 0, 0, 10),
        Box("b", 1, 0, 10),
        Box("c", 2, 2, 7),
        Box("d", 2, 9, 1),
        Box("e", 3, 9, 1),
    ]


def test_the_books_top_edges() -> None:
    # c 70 %, b 20 %, e 10 %.
    assert top_edges(PROFILE) == {"c": 7, "b": 2, "e": 1}


def test_a_flame_chart_keeps_time() -> None:
    assert chart([(("a", "x"), 1), (("a", "y"), 1), (("a", "x"), 1)]) == [
        Box("x", 1, 0, 1),
        Box("y", 1, 1, 1),
        Box("x", 1, 2, 1),
        Box("a", 0, 0, 3),
    ]


def test_leaves_first() -> None:
    assert reverse({("a", "c"): 1, ("b", "c"): 2}) == {("c", "a"): 1, ("c", "b"): 2}


STACKS = st.dictionaries(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=5).map(tuple), st.integers(1, 9), max_size=20
)


@given(STACKS)
def test_boxes_tile(stacks: dict[fold.Stack, int]) -> None:
    boxes = layout(stacks)
    parents = {(box.depth, box.start + i): box for box in boxes for i in range(box.width)}
    # Every stack is the column of names above one place, as often as it was counted.
    columns: dict[fold.Stack, int] = {}
    for at in range(sum(stacks.values())):
        column: list[str] = []
        while (box := parents.get((len(column), at))) is not None:
            column.append(box.name)
        columns[tuple(column)] = columns.get(tuple(column), 0) + 1
    assert columns == stacks
    # Neighbours of one name and one parent are one box.
    for box in boxes:
        after = parents.get((box.depth, box.start + box.width))
        same_parent = box.depth == 0 or (
            after is not None and parents[box.depth - 1, box.start] == parents[box.depth - 1, after.start]
        )
        assert after is None or not same_parent or after.name != box.name


@given(STACKS)
def test_folded_lines_read_back(stacks: dict[fold.Stack, int]) -> None:
    assert fold.parse(fold.render(stacks).splitlines()) == stacks


def test_folded_lines_of_other_tools() -> None:
    assert fold.parse(["main;std::map<int, int>::at 3", "", "main;std::map<int, int>::at 2.0"]) == {
        ("main", "std::map<int, int>::at"): 5
    }
    with pytest.raises(DecodeError, match="line 2"):
        fold.parse(["a 1", "no number"])


def test_frames_cannot_break_a_line() -> None:
    assert fold.frame_text("a;b\nc") == "a:b c"


NAMESPACE = "{http://www.w3.org/2000/svg}"


def shapes(picture: str) -> dict[str, tuple[Any, ...]]:
    """Title, left, top and width of each box by its name."""
    tree = ElementTree.fromstring(picture)
    found: dict[str, tuple[Any, ...]] = {}
    for group in tree.iter(f"{NAMESPACE}g"):
        rect = group.find(f"{NAMESPACE}rect")
        if rect is not None:
            numbers = [float(rect.get(name, "nan")) for name in ("x", "y", "width")]
            found[group.get("data-n", "")] = (group.findtext(f"{NAMESPACE}title", ""), *numbers)
    return found


def test_svg_has_the_layouts_proportions() -> None:
    found = shapes(svg.render(PROFILE, width=1020))  # 100 pixels for each stack
    assert found["all"] == ("all (10 samples, 100%)", 10, 40 + 4 * 16, 1000)
    assert found["b"] == ("b (10 samples, 100.00%)", 10, 40 + 2 * 16, 1000)
    assert found["c"] == ("c (7 samples, 70.00%)", 210, 40 + 16, 700)
    assert found["e"] == ("e (1 samples, 10.00%)", 910, 40, 100)


def test_an_icicle_hangs() -> None:
    found = shapes(svg.render(PROFILE, icicle=True))
    assert [found[name][2] for name in ("all", "a", "b", "c", "e")] == [40, 56, 72, 88, 104]


def test_what_cannot_be_seen_is_left_out() -> None:
    assert set(shapes(svg.render({("a",): 1_000_000, ("b",): 1}))) == {"all", "a"}


def test_any_name_makes_valid_svg() -> None:
    name = "std::less<int>::\x01operator&\"\udc80'"
    (title, *_) = shapes(svg.render({(name,): 1}))["std::less<int>:: operator&\"\ufffd'"]
    assert title.endswith("(1 samples, 100.00%)")
    assert shapes(svg.render({})) == {"all": ("all (0 samples, 100%)", 10.0, 40.0, 1180.0)}


def test_a_file_needs_no_other() -> None:
    text = svg.render(PROFILE)
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert "<script>" in text


def test_colours_tell_kinds_apart_and_stay() -> None:
    def hues(form: str) -> set[int]:
        return {int(svg.colour(form.format(n))[4:].split(",")[0]) for n in range(100)}

    kinds = [hues(form) for form in ("read{}", "vfs_{}_[k]", "ns::f{}", "py::main{}_[j]")]
    assert len(set().union(*kinds)) == sum(len(kind) for kind in kinds)
    assert svg.colour("read") == svg.colour("read") != svg.colour("write")
