"""SVG chart of throughput by number of posts, legible on light and dark pages."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from math import ceil, floor, log10
from typing import Final

WIDTH: Final = 760
HEIGHT: Final = 400
LEFT, RIGHT, TOP, BOTTOM = 62, 170, 44, 46
LABEL_HEIGHT: Final = 18
STEPS: Final = 5
"""Approximate number of grid lines."""

COLORS: Final = (("#0b63c4", "#6cb0ff"), ("#b4460f", "#ff9e66"), ("#1a7a3c", "#67cf8b"), ("#8a2fb0", "#d592f5"))
"""Colors of a line on light and dark pages; from the fifth on they repeat, dashed."""

STYLE: Final = "".join(
    (
        "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:15px}.grid{stroke:#ddd}",
        ".line{fill:none;stroke-width:2.5;stroke-linejoin:round}",
        *(f".c{n}{{stroke:{light};fill:{light}}}" for n, (light, _) in enumerate(COLORS)),
        "@media(prefers-color-scheme:dark){text{fill:#eee}.grid{stroke:#444}",
        *(f".c{n}{{stroke:{dark};fill:{dark}}}" for n, (_, dark) in enumerate(COLORS)),
        "}text.label{stroke:none}.line{fill:none}",
    )
)


def draw(title: str, sizes: Sequence[int], lines: Mapping[str, Sequence[float]]) -> str:
    """Draw requests per second by the number of posts, on a logarithmic axis.

    Each line has its name at its end, so that colors are not needed to tell them apart.
    """
    step = _step(max(max(values) for values in lines.values()) / STEPS)
    top = step * max(1, ceil(max(max(values) for values in lines.values()) / step))
    least, most = log10(sizes[0]), log10(sizes[-1])

    def x(size: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (log10(size) - least) / ((most - least) or 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    def parts() -> Iterator[str]:
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            f' aria-labelledby="title">\n<title id="title">{escape(title)}</title>\n<style>{STYLE}</style>'
        )
        yield f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>'
        for value in range(0, top + 1, step):
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,}</text>'
        for size in sizes:
            yield f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{size:,}</text>'
        yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">posts</text>'
        places = _apart([y(values[-1]) for values in lines.values()])
        for number, (name, place) in enumerate(zip(lines, places, strict=True)):
            color = f"c{number % len(COLORS)}"
            dashes = ' stroke-dasharray="6 4"' if number >= len(COLORS) else ""
            points = [(x(size), y(value)) for size, value in zip(sizes, lines[name], strict=True)]
            way = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
            yield f'<polyline class="line {color}" points="{way}"{dashes}/>'
            for (across, down), each in zip(points, lines[name], strict=True):
                yield (
                    f'<circle class="{color}" cx="{across:.1f}" cy="{down:.1f}" r="3.5">'
                    f"<title>{escape(name)}: {each:,.0f} a second</title></circle>"
                )
            yield f'<text class="label {color}" x="{WIDTH - RIGHT + 12}" y="{place + 4:.1f}">{escape(name)}</text>'
        yield "</svg>\n"

    return "\n".join(parts())


def _step(least: float) -> int:
    """Find the next 1, 2 or 5 times a power of ten."""
    power: int = 10 ** floor(log10(max(least, 1)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)


def _apart(places: Sequence[float]) -> list[float]:
    """Move labels down until none overlap, then all up if the last leaves the chart."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + LABEL_HEIGHT)
    excess = max(0.0, moved[order[-1]] - (HEIGHT - BOTTOM))
    return [place - excess for place in moved]
