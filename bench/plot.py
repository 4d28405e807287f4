"""Bars with their spread, as SVG. By hand, without library or date: the same figures give the same file."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, LEFT, RIGHT, ROW, TOP = 720, 130, 90, 22, 34
INNER = WIDTH - LEFT - RIGHT
OURS, THEIRS, SPREAD, GRID = "#0b6e99", "#b9c4cc", "#333333", "#e3e3e3"


@dataclass(frozen=True)
class Bar:
    """One target: its median, and the least and the greatest of its rounds."""

    label: str
    low: float
    median: float
    high: float


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A bar for each row; longer than three times the median of all is cut off, and its number tells."""
    middles = sorted(row.median for row in rows)
    most = min(max(row.high for row in rows), 3 * middles[len(middles) // 2]) or 1.0
    height = TOP + ROW * len(rows) + 14
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'style="font-family:sans-serif;font-size:12px;background:white">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="20" font-size="13" font-weight="bold">{title}</text>',
    ]
    for quarter in range(5):
        x = LEFT + INNER * quarter / 4
        out.append(f'<line x1="{x:.0f}" y1="{TOP - 4}" x2="{x:.0f}" y2="{height - 14}" stroke="{GRID}"/>')
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        color = OURS if row.label.startswith("forebay") else THEIRS
        low, middle, high = (LEFT + INNER * min(1.0, value / most) for value in (row.low, row.median, row.high))
        out += [
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{row.label}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{middle - LEFT:.1f}" height="15" fill="{color}"/>',
            f'<line x1="{low:.1f}" y1="{y + 7.5}" x2="{high:.1f}" y2="{y + 7.5}" stroke="{SPREAD}"/>',
            f'<text x="{max(middle, high) + 6:.1f}" y="{y + 12}">{row.median:.3g}</text>',
        ]
    return "\n".join([*out, "</svg>"]) + "\n"
