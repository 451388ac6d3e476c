"""Draw, in SVG, how the costs of operations on the index depend on the number of blobs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from bench.figures import Figure
from bench.table import number
from bench.targets import Results

SHOWN: Final = ("plan", "evict", "start", "stamp", "logger")
"""The rows that the chart shows."""
_COLOURS: Final = ("#0f8a5f", "#c2571a", "#3d6fd1", "#9a4fc4", "#7a7f87")
_WIDTH, _LEFT, _RIGHT, _TOP, _HEIGHT = 880, 60, 360, 40, 300
_STYLE: Final = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.grid { stroke: #8b949e; stroke-opacity: .35 }
polyline { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }"""


def growth_chart(results: Results, titles: Mapping[str, str]) -> str:
    """Return the chart as SVG, with a line for each measured row; *titles* names the rows."""
    rows = [key for key in SHOWN if results.get(key)]
    sizes = list(dict.fromkeys(size for key in rows for size in results[key]))
    costs = [figure.cost for key in rows for figure in results[key].values() if figure.cost > 0]
    low = math.floor(math.log10(min(costs, default=1.0)))
    high = max(math.ceil(math.log10(max(costs, default=1.0))), low + 1)
    words = " ".join(_words(titles[key], results[key]) for key in rows)
    parts = [
        '<text x="12" y="20">Cost for different numbers of blobs in the index</text>',
        *_grid(sizes, low, high),
        *(
            part
            for at, key in enumerate(rows)
            for part in _line(titles[key], results[key], sizes, (low, high), at)
        ),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_TOP + _HEIGHT + 40}"'
        ' role="img" aria-labelledby="title words">\n'
        '<title id="title">Cost for different numbers of blobs in the index</title>\n'
        f'<desc id="words">{escape(words)}</desc>\n<style>\n{_STYLE}\n</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _words(title: str, sizes: Mapping[str, Figure]) -> str:
    each = ", ".join(f"{number(figure.cost)} at {size}" for size, figure in sizes.items())
    return f"{title}: {each}."


def _grid(sizes: Sequence[str], low: int, high: int) -> Iterator[str]:
    for power in range(low, high + 1):
        y = _y(10.0**power, low, high)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
    for at, size in enumerate(sizes):
        x = _x(at, sizes)
        yield f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 20}" text-anchor="middle">{size}</text>'


def _line(
    title: str, found: Mapping[str, Figure], sizes: Sequence[str], span: tuple[int, int], at: int
) -> Iterator[str]:
    points = [
        (_x(sizes.index(size), sizes), _y(figure.cost, *span))
        for size, figure in found.items()
        if figure.cost > 0
    ]
    colour = _COLOURS[at % len(_COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline stroke="{colour}" points="{path}"/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    y = _TOP + 12 + 22 * at
    yield f'<rect x="{_WIDTH - _RIGHT + 20}" y="{y - 9}" width="14" height="10" fill="{colour}"/>'
    yield f'<text x="{_WIDTH - _RIGHT + 40}" y="{y}">{escape(title)}</text>'


def _x(at: int, sizes: Sequence[str]) -> float:
    return _LEFT + 20 + at * (_WIDTH - _LEFT - _RIGHT - 40) / max(len(sizes) - 1, 1)


def _y(cost: float, low: int, high: int) -> float:
    return _TOP + _HEIGHT * (high - math.log10(cost)) / (high - low)
