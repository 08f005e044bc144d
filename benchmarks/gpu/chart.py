"""One line with labelled dots as an SVG file: no plotting library is worth its install here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 640, 400, 60
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw(dots: Sequence[tuple[float, float, str]], across: str, up: str, path: Path) -> None:
    """`dots` are (x, y, label) in order; both axes begin at 0 and are titled `across` and `up`."""
    most_x, most_y = (1.1 * max(dot[axis] for dot in dots) for axis in (0, 1))
    places = [(_x(x / most_x), _y(y / most_y), label) for x, y, label in dots]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    shapes = [
        '<rect width="100%" height="100%" fill="white"/>',
        f'<path d="M{MARGIN},{MARGIN} V{_y(0):.0f} H{_x(1):.0f}" fill="none" stroke="black"/>',
        f'<polyline points="{line}" fill="none" stroke="steelblue" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>{_text(x + 5, y - 6, label)}' for x, y, label in places),
        *(_text(_x(share), _y(0) + 16, f"{share * most_x:.4g}", "middle") for share in TICKS),
        *(_text(MARGIN - 6, _y(share) + 4, f"{share * most_y:.3g}", "end") for share in TICKS),
        _text(WIDTH / 2, HEIGHT - 16, across, "middle"),
        _text(MARGIN, MARGIN - 18, up),
    ]
    size = f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12"'
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>' + "\n".join(shapes) + "</svg>\n")


def _x(share: float) -> float:
    return MARGIN + share * (WIDTH - 2 * MARGIN)


def _y(share: float) -> float:
    return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
