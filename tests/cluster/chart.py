"""A recorded run as a picture: `python -m tests.cluster.chart RECORD > CHART.svg`.

Granted, open and budget over time; `open` is the most in each second, as the backend counted it from the inside.
"""

import json
import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 1200, 600
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 40, 200  # margins; what was done is listed below
LINES = {"budget": "#c0392b", "granted": "#2980b9", "open": "#27ae60"}


def chart(record: dict[str, Any]) -> str:
    status, history, marks = record["status"], record["open"], record["marks"]
    began, ended = status[0][0], status[-1][0]
    most = max(budget for _, _, budget, _ in status)
    scale = 5 * (int(most) // 5 + 1)

    def x(at: float) -> float:
        return LEFT + (at - began) / (ended - began) * (WIDTH - LEFT - RIGHT)

    def y(connections: float) -> float:
        return TOP + (1 - connections / scale) * (HEIGHT - TOP - BOTTOM)

    lines = {
        "budget": [(at, budget) for at, _, budget, _ in status],
        "granted": [(at, granted) for at, granted, _, _ in status],
        "open": [(at - 1, most) for at, most in history if began < at - 1 <= ended],
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for connections in range(0, scale + 1, 10):
        parts.append(f'<path d="M{LEFT} {y(connections):.1f}H{WIDTH - RIGHT}" stroke="#eee"/>')
        parts.append(_text(LEFT - 8, y(connections) + 4, str(connections), anchor="end"))
    minutes = range(int((ended - began) // 60) + 1)
    parts += [_text(x(began + 60 * minute), y(0) + 16, f"{minute} min", anchor="middle") for minute in minutes]
    shown = [(at, what) for at, what in marks if began <= at <= ended]
    for number, (at, what) in enumerate(shown, 1):
        parts.append(f'<path d="M{x(at):.1f} {TOP}V{y(0):.1f}" stroke="#bbb" stroke-dasharray="2 3"/>')
        parts.append(_text(x(at) + 2, TOP + 9 + 10 * (number % 2), str(number)))
        column, row = divmod(number - 1, -(-len(shown) // 2))
        parts.append(_text(LEFT + column * (WIDTH - LEFT) / 2, y(0) + 45 + 17 * row, f"{number}. {what}"))
    for index, (name, points) in enumerate(lines.items()):
        path = "".join(_steps((x(at), y(connections)) for at, connections in points))
        parts.append(f'<path d="{path}" fill="none" stroke="{LINES[name]}" stroke-width="1.5"/>')
        parts.append(_text(LEFT + 90 * index, TOP - 18, name, colour=LINES[name]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _steps(points: Iterable[tuple[float, float]]) -> Iterable[str]:
    """A path that stays where it is until the next point."""
    for index, (across, down) in enumerate(points):
        yield f"H{across:.1f}V{down:.1f}" if index else f"M{across:.1f} {down:.1f}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#555") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


if __name__ == "__main__":
    sys.stdout.write(chart(json.loads(Path(sys.argv[1]).read_text())))
