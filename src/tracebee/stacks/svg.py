"""A flame graph as one SVG file: no other file, no network. A click zooms, ``/`` or Ctrl-F searches."""

from __future__ import annotations

import os

from tracebee.stacks.flamegraph import layout, reverse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.stacks.flamegraph import Box
    from tracebee.stacks.fold import Stack

_HEIGHT = 16  # of a box, pixels
_MARGIN, _HEAD, _FOOT = 10, 40, 24
_CHARACTER = 6.6  # width of one at the font's size
_NARROWEST = 0.1  # boxes below these pixels cannot be seen: they would only make the file large

# (kind, suffix or part of the name that tells it, hue): colour is by kind of code.
_KINDS = (("kernel", "_[k]", 24), ("jit", "_[j]", 100), ("c++", "::", 48))
_USER_HUE, _HUES = 0, 16  # hues of one kind


def render(
    stacks: Mapping[Stack, int],
    *,
    title: str = "Flame Graph",
    unit: str = "samples",
    width: int = 1200,
    icicle: bool = False,
    leaves_first: bool = False,
) -> str:
    """The SVG text of a flame graph.

    :param unit: what the numbers count, for tooltips.
    :param width: of the picture in pixels.
    :param icicle: the root on top.
    :param leaves_first: merge stacks from their leaves.
    """
    boxes = layout(reverse(stacks) if leaves_first else stacks)
    total = sum([number for number in stacks.values() if number > 0])
    scale = (width - 2 * _MARGIN) / total if total else 0.0
    shown = [box for box in boxes if box.width * scale >= _NARROWEST]
    depth = max([box.depth for box in shown], default=-1) + 1
    height = _HEAD + (depth + 1) * _HEIGHT + _FOOT
    with open(os.path.join(os.path.dirname(__file__), "flamegraph.js")) as file:
        script = file.read()
    everything = [_whole(total, unit, width, _top(-1, depth, icicle=icicle))]
    body = everything + [
        _box(box, total, unit, scale, _top(box.depth, depth, icicle=icicle)) for box in shown
    ]
    return _PAGE.format(
        width=width,
        height=height,
        title=_escape(title),
        middle=width / 2,
        left=_MARGIN,
        right=width - _MARGIN,
        foot=height - 8,
        boxes="\n".join(body),
        script=script.replace("]]>", ""),
    )


def _top(depth: int, rows: int, *, icicle: bool) -> int:
    row = depth + 1 if icicle else rows - 1 - depth
    return _HEAD + row * _HEIGHT


def _whole(total: int, unit: str, width: int, top: int) -> str:
    text = f"all ({total:,} {unit}, 100%)"
    return _shape(_MARGIN, width - 2 * _MARGIN, top, "hsl(0,0%,80%)", "all", text)


def _box(box: Box, total: int, unit: str, scale: float, top: int) -> str:
    share = 100 * box.width / total
    text = f"{_plain(box.name)} ({box.width:,} {unit}, {share:.2f}%)"
    left = _MARGIN + box.start * scale
    return _shape(left, box.width * scale, top, colour(box.name), _plain(box.name), text)


def _shape(left: float, width: float, top: int, fill: str, name: str, title: str) -> str:
    fits = int((width - 4) / _CHARACTER)
    label = name if len(name) <= fits else f"{name[: fits - 2]}.." if fits >= _SHORTEST else ""
    return (
        f'<g data-n="{_escape(name)}"><title>{_escape(title)}</title>'
        f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_HEIGHT - 1}" fill="{fill}"/>'
        f'<text x="{left + 3:.1f}" y="{top + 12}">{_escape(label)}</text></g>'
    )


_SHORTEST = 3  # characters of a label: one and two dots


def colour(name: str) -> str:
    """A box's colour: the hue by the kind of code, saturation and lightness by the name.

    The same name has the same colour in every graph.
    """
    hue = next((hue for _, mark, hue in _KINDS if mark in name), _USER_HUE)
    digest = 2166136261
    for byte in _plain(name).encode("utf-8", "surrogateescape"):
        digest = (digest ^ byte) * 16777619 & 0xFFFFFFFF  # FNV-1a
    return f"hsl({hue + digest % _HUES},{65 + (digest >> 8) % 30}%,{58 + (digest >> 16) % 14}%)"


def _plain(name: str) -> str:
    return name.removesuffix("_[k]").removesuffix("_[j]")


def _escape(text: str) -> str:
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = "".join([max(c, " ") for c in text])
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


_PAGE = """\
<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>
svg {{ background: #fdfdf6 }}
text {{ font: 12px monospace; fill: #000; pointer-events: none }}
g[data-n] {{ cursor: pointer }}
g[data-n]:hover rect {{ stroke: #000 }}
g.found rect {{ fill: #c6f }}
.title {{ font-size: 17px }}
.button {{ pointer-events: auto; cursor: pointer; fill: #666 }}
@media (prefers-color-scheme: dark) {{ svg {{ background: #222 }} .title, .button, .foot {{ fill: #ccc }} }}
</style>
<text class="title" x="{middle}" y="24" text-anchor="middle">{title}</text>
<text class="button" id="reset" x="{left}" y="24"></text>
<text class="button" id="search" x="{right}" y="24" text-anchor="end">Search</text>
<text class="foot" id="details" x="{left}" y="{foot}"> </text>
<text class="foot" id="matched" x="{right}" y="{foot}" text-anchor="end"> </text>
<g id="frames">
{boxes}
</g>
<script><![CDATA[
{script}]]></script>
</svg>
"""
