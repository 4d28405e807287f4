"""From figures to a verdict, a table and a file."""

import dataclasses
import datetime
import json
import platform
import re
import statistics
import subprocess
from collections.abc import Set
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.kernel import machine
from bench.kinds import Cpu, Limit, Scenario
from bench.run import Figures

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Spread:
    """Over the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return f"{_short(self.low):>7} {_short(self.median):>7} {_short(self.high):>7}"


@dataclass(frozen=True)
class Verdict:
    """A limit beside what was measured; `value` is None where something is missing."""

    limit: Limit
    value: float | None

    @property
    def ok(self) -> bool:
        most = self.limit.factor if self.limit.plus is None else self.limit.plus
        return self.limit.lenient if self.value is None else self.value <= most

    def __str__(self) -> str:
        limit = self.limit
        most, of = f"{limit.factor:.3g}", f" x {limit.against}" if limit.against else ""
        if limit.plus is not None:
            most, of = f"{limit.plus:g}", f" above {limit.against}"
        value = "not measured" if self.value is None else f"{self.value:.4g}{of}"
        word = "OVER" if not self.ok else "skip" if self.value is None else "ok  "
        return f"{word} {limit.target} {limit.figure}: {value}, at most {most}{of}"


def pairs(figures: Figures, target: str, base: str, figure: str) -> list[tuple[float, float]]:
    """Round by round: what disturbs a round disturbs both."""
    ours, theirs = (figures.values.get(name, {}).get(figure, []) for name in (target, base))
    return list(zip(ours, theirs, strict=True)) if ours and theirs else []


def ratios(figures: Figures, target: str, base: str, figure: str) -> list[float]:
    return [ours / theirs for ours, theirs in pairs(figures, target, base, figure)]


def narrowed(scenario: Scenario, only: Set[str]) -> Scenario:
    """Without the limits that need a target which is not among those that are asked for."""
    out = scenario.targets.keys() - only
    limits = tuple(limit for limit in scenario.limits if not out & {limit.target, limit.against})
    return dataclasses.replace(scenario, limits=limits)


def verdicts(scenario: Scenario, figures: Figures) -> list[Verdict]:
    found = []
    for limit in scenario.limits:
        if limit.against is None:
            values = figures.values.get(limit.target, {}).get(limit.figure, [])
        elif limit.plus is not None:
            values = [ours - theirs for ours, theirs in pairs(figures, limit.target, limit.against, limit.figure)]
        else:
            values = ratios(figures, limit.target, limit.against, limit.figure)
        found.append(Verdict(limit, statistics.median(values) if values else None))
    return found


def table(scenario: Scenario, figures: Figures) -> str:
    lines = [
        f"{scenario.name}: {scenario.about}",
        ", ".join(f"{value} {name}" for name, value in figures.settings.items()),
        "",
    ]
    lines += _cpu_rows(scenario, figures) if isinstance(scenario, Cpu) else _rows(figures)
    lines += [f"{name:<20}not measured: {why}" for name, why in figures.missing.items()]
    return "\n".join([*lines, "", *map(str, verdicts(scenario, figures)), ""])


def _cpu_rows(scenario: Cpu, figures: Figures) -> list[str]:
    unit, cost = scenario.unit, scenario.cost
    spread = f"{'min':>7} {'median':>7} {'max':>7}"
    lines = [
        f"{'':<20}{f'CPU us/{unit}':^23}   {f'ratio to {scenario.base}':^23}   "
        f"{unit + 's/s':>10} {'cores':>6} {'MiB':>6} {'calls':>6} {'opened':>7}",
        f"{'':<20}{spread}   {spread}",
    ]
    for name, values in figures.values.items():
        ratio = ratios(figures, name, scenario.base, cost)
        middle = {key: statistics.median(series) for key, series in values.items()}
        calls = middle.get(f"system_calls_per_{unit}")
        lines.append(
            f"{name:<20}{Spread.of(values[cost])}   {str(Spread.of(ratio)) if ratio else '':<23}   "
            f"{middle[f'{unit}s_per_second']:>10.0f} {middle['cores']:>6.2f} {middle['rss_mib']:>6.0f} "
            f"{'' if calls is None else f'{calls:.2f}':>6} "
            f"{middle['upstream_connections_opened']:>7.0f}"
        )
    return lines


def _rows(figures: Figures) -> list[str]:
    """A row for each target, a column for each figure: the median of its rounds."""
    names = list(dict.fromkeys(name for values in figures.values.values() for name in values))
    widths = [max(12, len(name) + 2) for name in names]
    lines = [f"{'':<20}" + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]
    for target, values in figures.values.items():
        middle = [_short(statistics.median(values.get(name, [float("nan")]))) for name in names]
        lines.append(f"{target:<20}" + "".join(f"{text:>{w}}" for text, w in zip(middle, widths, strict=True)))
    return lines


TEMPORARY = r'/[^" ]*/forebay-bench-\w+'  # where a run keeps what it makes: of no interest to anybody afterwards


def save(scenario: Scenario, figures: Figures, *, record: bool) -> Path:
    """Write everything as JSON: over the recorded result, or into the directory that git ignores."""
    now = datetime.datetime.now(datetime.UTC)
    name = f"{scenario.name}.json" if record else f"scratch/{scenario.name}-{now:%Y%m%dT%H%M%SZ}.json"
    path = RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "scenario": scenario.name,
        "about": scenario.about,
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "settings": figures.settings,
        "targets": figures.about,
        "missing": figures.missing,
        "figures": figures.values,
        "limits": [{"limit": str(one), "value": one.value, "ok": one.ok} for one in verdicts(scenario, figures)],
    }
    if isinstance(scenario, Cpu):
        result["load"] = list(scenario.load)
        result["ratios"] = {
            name: vars(Spread.of(ratio))
            for name in figures.values
            if (ratio := ratios(figures, name, scenario.base, scenario.cost))
        }
    path.write_text(re.sub(TEMPORARY, "DIRECTORY", json.dumps(result, indent=1)) + "\n")
    return path


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("uvloop", "Cython", "pydantic", "aiohttp"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found | {"forebay": git.stdout.strip() or "unknown"}


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
