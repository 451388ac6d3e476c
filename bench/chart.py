"""Draw the chart of README in SVG: each server's cost as a multiple of docker-registry's.

Each row is a logarithmic line with a dot for each server. The background is transparent, and the
text is legible in light and dark themes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.figures import Figure
from bench.kinds import NGINX, OURS, REGISTRY
from bench.rows import ROWS
from bench.table import number, unit
from bench.targets import DIRECT, Results

SHOWN = (
    "manifest-digest",
    "manifest-tag",
    "head-tag",
    "manifest-login",
    "blob-small",
    "blob-large",
    "blob-tls",
    "cold-clients",
    "cold-line",
)
_WIDTH, _LEFT, _RIGHT, _TOP, _STEP = 880, 350, 40, 68, 40
_COLOURS: Mapping[str, str] = {
    OURS: "#0f8a5f",
    REGISTRY: "#c2571a",
    NGINX: "#7a7f87",
    DIRECT: "#2f9fc4",
}
_LABELLED: Mapping[str, int] = {OURS: -7, REGISTRY: 20}  # pixels below its dot
_PEERS = ("#3d6fd1", "#9a4fc4", "#b08900")
_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.grid { stroke: #8b949e; stroke-opacity: .35 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small { fill: #9da7b3 } }"""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps a ratio to a horizontal position, between the powers of ten `low` and `high`."""

    low: int
    high: int

    def x(self, ratio: float) -> float:
        """Return the position of a ratio (pixels)."""
        share = (math.log10(ratio) - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def chart(results: Results, subtitle: str) -> str:
    """Return the SVG; rows without a figure of docker-registry are left out."""
    rows = [key for key in SHOWN if _base(results, key)]
    servers = list(dict.fromkeys(name for key in rows for name in results[key]))
    scale = _scale(results, rows)
    height = _TOP + _STEP * len(rows) + 44
    parts = [
        *_grid(scale, len(rows)),
        *_legend(servers),
        *(part for at, key in enumerate(rows) for part in _row(results, key, at, scale)),
        f'<text class="small" x="12" y="{height - 10}">{escape(subtitle)}</text>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">\n'
        f"<title>The cost of each server, as a multiple of docker-registry's cost</title>\n"
        f"<style>\n{_STYLE}\n</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _scale(results: Results, rows: Sequence[str]) -> Scale:
    ratios = [ratio for key in rows for _, _, ratio in _ratios(results, key)] or [1.0]
    low, high = math.floor(math.log10(min(ratios))), math.ceil(math.log10(max(ratios)))
    return Scale(min(low, -1), max(high, 0))


def _grid(scale: Scale, rows: int) -> Iterator[str]:
    bottom = _TOP + _STEP * rows
    for power in range(scale.low, scale.high + 1):
        x = scale.x(10.0**power)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 12}" y2="{bottom}"/>'
        words = f"{10**power}" if power >= 0 else f"1/{10**-power:,}"
        place = f'x="{x:.1f}" y="{bottom + 15}" text-anchor="middle"'
        yield f'<text class="small" {place}>{words}</text>'


def _legend(servers: Sequence[str]) -> Iterator[str]:
    yield f'<text x="12" y="20">Cost as a multiple of {REGISTRY}\'s: to the left is better</text>'
    x = 12
    for name in servers:
        yield _dot(x + 5, 38, name, servers)
        yield f'<text class="small" x="{x + 15}" y="42">{escape(name)}</text>'
        x += 40 + 7 * len(name)


def _row(results: Results, key: str, at: int, scale: Scale) -> Iterator[str]:
    y = _TOP + _STEP * at + 10
    row = ROWS[key]
    yield f'<text x="12" y="{y + 1}">{escape(row.title)}</text>'
    yield f'<text class="small" x="12" y="{y + 14}">{unit(row.unit)}</text>'
    servers = list(results[key])
    yield (f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y + 2}" y2="{y + 2}"/>')
    for name, cost, ratio in _ratios(results, key):
        x = scale.x(ratio)
        yield _dot(x, y + 2, name, servers)
        if name in _LABELLED:
            place = f'x="{x:.1f}" y="{y + _LABELLED[name]}" text-anchor="middle"'
            yield f'<text class="small" {place}>{number(cost)}</text>'


def _dot(x: float, y: float, name: str, servers: Sequence[str]) -> str:
    """Return a server's dot; it is hollow if the server is not a cache."""
    colour = _colour(name, servers)
    fill = "none" if name in {NGINX, DIRECT} else colour
    return f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'


def _ratios(results: Results, key: str) -> Iterator[tuple[str, float, float]]:
    """Yield each server's name, its cost, and the ratio to docker-registry's cost."""
    base = _base(results, key)
    for name, figure in results[key].items():
        if figure.cost > 0 and not figure.failures:
            yield name, figure.cost, figure.cost / base


def _base(results: Results, key: str) -> float:
    figure: Figure | None = results.get(key, {}).get(REGISTRY)
    return figure.cost if figure is not None else 0.0


def _colour(name: str, servers: Sequence[str]) -> str:
    others = [each for each in servers if each not in _COLOURS]
    return _COLOURS.get(name) or _PEERS[others.index(name) % len(_PEERS)]
