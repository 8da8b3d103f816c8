"""Curves as an SVG, without a library: enough for a page of the docs."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 420
HEIGHT = 260
LEFT, RIGHT, TOP, BOTTOM = 48, 24, 30, 40
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one colour; those without a label do not stand in the legend."""

    points: Sequence[tuple[float, float]]
    colour: str
    label: str = ""
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: curves over a common x. `top_y`: the largest y that is shown; what is above is cut."""

    title: str
    x_title: str
    curves: Sequence[Curve]
    top_x: float
    top_y: float
    unit: str = ""


def svg(panels: Sequence[Panel]) -> str:
    """The panels side by side."""
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<text x="{LEFT}" y="18" font-weight="bold">{escape(panel.title)}</text>']
    for tick in range(5):
        x = LEFT + (right - LEFT) * tick / 4
        y = bottom - (bottom - TOP) * tick / 4
        parts += [
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#d0d7de"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{panel.top_y * tick / 4:g}{panel.unit}</text>',
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{panel.top_x * tick / 4:g}</text>',
        ]
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(panel.x_title)}</text>')
    labels = [curve for curve in panel.curves if curve.label]
    for row, curve in enumerate(labels):
        y = TOP + 12 + 14 * row
        parts += [
            f'<line x1="{LEFT + 8}" y1="{y - 4}" x2="{LEFT + 26}" y2="{y - 4}" stroke="{curve.colour}"'
            f' stroke-width="2"{_dashes(curve)}/>',
            f'<text x="{LEFT + 32}" y="{y}">{escape(curve.label)}</text>',
        ]
    return parts + [_line(panel, curve) for curve in panel.curves]


def _line(panel: Panel, curve: Curve) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    points = " ".join(
        f"{LEFT + (right - LEFT) * x / panel.top_x:.1f},{bottom - (bottom - TOP) * min(y / panel.top_y, 1):.1f}"
        for x, y in curve.points
    )
    return f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="1.5"{_dashes(curve)}/>'


def _dashes(curve: Curve) -> str:
    return ' stroke-dasharray="4 3"' if curve.is_dashed else ""
