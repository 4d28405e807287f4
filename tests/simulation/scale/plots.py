"""A trace's run as an SVG: the autoscalers over each other, on one axis of time. Written by hand: no library, no date,
so that the same seed gives the same file."""

from collections.abc import Callable, Sequence
from math import log10

from tests.simulation.scale.score import Score
from tests.simulation.scale.world import Sample

from forebay_core.scale.diagnosis import Cause

WIDTH, PANEL, GAP, LEFT, RIGHT = 860, 110, 26, 70, 20
INNER = WIDTH - LEFT - RIGHT
COLORS = {"forebay": "#0b6e99", "forebay quick": "#5ab4d6", "HPA": "#b8860b", "KPA": "#9a3b3b"}
CAUSES = {
    Cause.NONE: "#e6e6e6", Cause.POOL: "#7fb069", Cause.CEILING: "#f2b134", Cause.BUDGET: "#8e6bbf",
    Cause.REPLICA: "#e07a3f", Cause.CONNECT: "#4c4c4c", Cause.BACKEND: "#c0392b",
}  # fmt: skip
POINTS = 400  # per line, at most

Value = Callable[[Sample], float]


def plot(scores: Sequence[Score]) -> str:
    """`scores`: one trace and seed, each autoscaler."""
    first = scores[0]
    end = first.samples[-1].at
    panels: list[tuple[str, Sequence[Score], Value, bool]] = [
        ("requests/s", scores[:1], lambda s: s.rate, False),
        ("replicas", scores, lambda s: s.wanted, False),
        ("wait p95, ms", scores, lambda s: 1000 * max(u.p95 for u in s.upstreams.values()), True),
        ("connections open", scores, lambda s: sum(u.open for u in s.upstreams.values()), False),
    ]
    out, top = [], 40
    for title, lines, value, logarithmic in panels:
        out.append(panel(top, title, lines, value, end, logarithmic))
        top += PANEL + GAP
    ours = next(s for s in scores if s.scaler == "forebay")
    for name in first.samples[0].upstreams:
        for what, cause in (("planted", "expected"), ("given", "given")):
            out.append(strip(top, f"{name} {what}", ours.samples, name, cause, end))
            top += 18
        top += 6
    out.append(axis(top, end))
    top += 34
    x = LEFT
    for label, color in [*((s.scaler, COLORS[s.scaler]) for s in scores), *CAUSES.items()]:
        out.append(f'<rect x="{x}" y="{top - 9}" width="10" height="10" fill="{color}"/>{text(x + 14, top, label)}')
        x += 26 + 7 * len(label)
        if x > WIDTH - 80:
            x, top = LEFT, top + 18
    style = "font-family:sans-serif;font-size:11px;background:white"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 14}" style="{style}">'
        f'<rect width="{WIDTH}" height="{top + 14}" fill="white"/>'
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{first.trace}</text>' + "".join(out) + "</svg>\n"
    )


def panel(top: int, title: str, scores: Sequence[Score], value: Value, end: float, logarithmic: bool) -> str:
    scale = (lambda v: log10(max(v, 1.0))) if logarithmic else float
    highest = max(scale(value(s)) for score in scores for s in score.samples) or 1.0
    parts = [
        f'<rect x="{LEFT}" y="{top}" width="{INNER}" height="{PANEL}" fill="#fafafa" stroke="#ccc"/>',
        text(LEFT, top - 5, title),
    ]
    for share in (0.0, 0.5, 1.0):
        mark = 10 ** (highest * share) if logarithmic else highest * share
        parts.append(text(LEFT - 6, top + PANEL * (1 - share) + 4, f"{mark:.0f}", "end"))
    for score in reversed(scores):
        step = max(1, len(score.samples) // POINTS)
        points = " ".join(
            f"{LEFT + INNER * at / end:.1f},{top + PANEL * (1 - high / highest):.1f}"
            for at, high in (
                (chunk[0].at, max(scale(value(s)) for s in chunk))  # no peak is lost
                for chunk in (score.samples[n : n + step] for n in range(0, len(score.samples), step))
            )
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLORS[score.scaler]}" stroke-width="1.3"/>')
    return "".join(parts)


def strip(top: int, title: str, samples: Sequence[Sample], upstream: str, which: str, end: float) -> str:
    """A band of causes over time: one rectangle per run of the same."""
    parts = [text(LEFT - 6, top + 11, title, "end")]
    begin, now = 0.0, getattr(samples[0].upstreams[upstream], which)
    for sample in [*samples[1:], None]:
        cause = getattr(sample.upstreams[upstream], which) if sample is not None else None
        if cause is not now:
            until = sample.at if sample is not None else end
            x, width = LEFT + INNER * begin / end, INNER * (until - begin) / end
            parts.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.2f}" height="14" fill="{CAUSES[now]}"/>')
            begin, now = until, cause
    return "".join(parts)


def axis(top: int, end: float) -> str:
    step = next(s for s in (60, 120, 300, 600) if end / s <= 12)
    return "".join(
        text(LEFT + INNER * at / end, top + 8, f"{at // 60} min", "middle") for at in range(0, int(end) + 1, step)
    )


def text(x: float, y: float, content: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{content}</text>'
