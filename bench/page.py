"""`python -m bench.page`: writes docs/reference/bench-results.md and its plots from bench/results/*.json.

Nothing is measured here. Each table names the command that makes it again.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.kinds import Cpu, Latency, Scenario
from bench.plot import Bar, bars
from bench.report import RESULTS
from bench.scenarios import SCENARIOS

PAGE = RESULTS.parents[1] / "docs" / "reference" / "bench-results.md"
PLOTS = PAGE.parent / "bench"
GLANCE = ("nginx", "haproxy", "envoy", "traefik", "caddy", "pgbouncer", "squid", "aiohttp", "threads")
LOST = 1.05  # times a peer's cost: what is nearer than that is a tie

Result = Mapping[str, Any]

COLUMNS = {
    "rest_mib": "MiB at rest", "full_mib": "MiB with all clients", "client_bytes_plain": "bytes per client",
    "client_bytes_tls": "bytes per TLS client", "cores": "cores", "rss_mib": "MiB",
    "p50_ms": "p50 ms", "p99_ms": "p99 ms", "p999_ms": "p99.9 ms",
    "added_p50_ms": "added p50", "added_p99_ms": "added p99", "added_p999_ms": "added p99.9",
    "late_p99_ms": "generator's own p99",
}  # fmt: skip

HEAD = """\
# Side by side: results

Generated from `bench/results/*.json` by `python -m bench.page`; what is measured, and how, is in [bench.md](bench.md).
Shown are medians over the rounds, with the least and the greatest in brackets. A ratio is taken within each round:
what disturbs the machine for a while disturbs both sides of it. **Below 1 Forebay takes less than the peer.**
Figures of different machines can't be compared; ratios can, with care.
"""


def load() -> dict[str, Result]:
    """What is recorded, in the order of the scenarios."""
    found = {name: RESULTS / f"{name}.json" for name in SCENARIOS}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}


def pages(results: Mapping[str, Result]) -> dict[Path, str]:
    """Each file, and what belongs into it."""
    out: dict[Path, str] = {}
    parts = [HEAD, *setting(results), *glance(results)]
    for name, result in results.items():
        scenario = SCENARIOS[name]
        plot = bars_of(scenario, result)
        if plot:
            out[PLOTS / f"{name}.svg"] = plot
        parts += section(scenario, result, plotted=bool(plot))
    return {PAGE: "\n".join(parts).rstrip() + "\n", **out}


def setting(results: Mapping[str, Result]) -> Iterator[str]:
    """Machines, and versions of programs: one of each, or the recording was made in pieces."""
    machines = sorted({", ".join(f"{key} {value}" for key, value in r["machine"].items()) for r in results.values()})
    ours = sorted({", ".join(f"{key} {value}" for key, value in r["versions"].items()) for r in results.values()})
    peers = {
        f"{target} ({about['version']})"
        for r in results.values()
        for target, about in r["targets"].items()
        if isinstance(about, Mapping) and "version" in about
    }
    yield from (f"- Machine: {one}" for one in machines)
    yield from (f"- Versions: {one}" for one in ours)
    if peers:
        yield f"- Peers: {', '.join(sorted(peers))}"
    yield ""


def spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def against(result: Result, peer: str, figure: str) -> list[float]:
    """Ours as a ratio to a peer's, round by round."""
    values = result["figures"]
    if peer not in values or "forebay" not in values:
        return []
    return [ours / theirs for ours, theirs in zip(values["forebay"][figure], values[peer][figure], strict=True)]


def glance(results: Mapping[str, Result]) -> Iterator[str]:
    """One row for each scenario of CPU time."""
    rows = {name: (s, results[name]) for name in results if isinstance(s := SCENARIOS[name], Cpu)}
    peers = [peer for peer in GLANCE if any(against(r, peer, s.cost) for s, r in rows.values())]
    yield "## At a glance: Forebay's CPU time per unit of work, as a ratio to each peer's\n"
    yield "| scenario | " + " | ".join(peers) + " |"
    yield "|---" * (len(peers) + 1) + "|"
    for name, (scenario, result) in rows.items():
        cells = []
        for peer in peers:
            ratio = against(result, peer, scenario.cost)
            median = f"{statistics.median(ratio):.2f}" if ratio else ""
            cells.append(f"**{median}**" if ratio and statistics.median(ratio) > LOST else median)
        if any(cells):
            yield f"| [{name}](#{name}) | " + " | ".join(cells) + " |"
    yield "\nBold: where Forebay takes more.\n"


def section(scenario: Scenario, result: Result, *, plotted: bool) -> Iterator[str]:
    settings = result["settings"]
    options = "".join(f" --{key} {settings[key]}" for key in ("rounds", "seconds") if key in settings)
    yield f"## {scenario.name}\n"
    yield f"{result['about'][0].upper()}{result['about'][1:]}. `python -m bench {scenario.name}{options}`\n"
    yield from cpu_table(scenario, result) if isinstance(scenario, Cpu) else plain_table(result)
    yield from (f"- `{name}` was not measured: {why}" for name, why in result["missing"].items())
    if result["missing"]:
        yield ""
    yield from verdicts(scenario, result)
    if plotted:
        yield f"![{scenario.name}](bench/{scenario.name}.svg)\n"


def cpu_table(scenario: Cpu, result: Result) -> Iterator[str]:
    unit = scenario.unit
    yield f"| | CPU µs/{unit} | ratio to {scenario.base} | {unit}s/s, saturated | cores | MiB | system calls/{unit} |"
    yield "|---|---|---|---|---|---|---|"
    base = result["figures"].get(scenario.base, {}).get(scenario.cost)
    for target, values in result["figures"].items():
        ratio = [mine / other for mine, other in zip(values[scenario.cost], base, strict=True)] if base else []
        middle = {key: f"{statistics.median(series):.3g}" for key, series in values.items()}
        rate = f"{statistics.median(values[f'{unit}s_per_second']):,.0f}"
        memory, calls = middle.get("rss_mib", ""), middle.get(f"system_calls_per_{unit}", "")
        shown = spread(ratio) if ratio and target != scenario.base else "1"
        cells = (target, spread(values[scenario.cost]), shown, rate, middle["cores"], memory, calls)
        yield f"| {' | '.join(cells)} |"
    yield ""


def plain_table(result: Result) -> Iterator[str]:
    """A column for each figure."""
    names = list(dict.fromkeys(name for values in result["figures"].values() for name in values))
    yield "| | " + " | ".join(COLUMNS.get(name, name.replace("_", " ")) for name in names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for target, values in result["figures"].items():
        yield f"| {target} | " + " | ".join(spread(values[n]) if n in values else "" for n in names) + " |"
    yield ""


def lost(scenario: Scenario, result: Result) -> list[str]:
    """The peers that do better."""
    if not isinstance(scenario, Cpu):
        return []
    ratios = {
        peer: against(result, peer, scenario.cost) for peer in result["figures"] if not peer.startswith("forebay")
    }
    return [peer for peer, ratio in ratios.items() if ratio and statistics.median(ratio) > LOST]


def verdicts(scenario: Scenario, result: Result) -> Iterator[str]:
    losses = lost(scenario, result)
    over = [one["limit"] for one in result["limits"] if not one["ok"]]
    if losses:
        yield f"Forebay takes more than {', '.join(losses)}."
    for limit in over:
        yield f"Over its limit: {limit.removeprefix('OVER ')}."
    if losses or over:
        yield f"{scenario.why}\n"


def bars_of(scenario: Scenario, result: Result) -> str:
    """The plot of a scenario that has one."""
    if isinstance(scenario, Cpu):
        figure, title = scenario.cost, f"CPU µs per {scenario.unit}"
    elif isinstance(scenario, Latency):
        figure, title = "p99_ms", "p99 in ms"
    else:
        return ""
    rows = [
        Bar(target, min(values[figure]), statistics.median(values[figure]), max(values[figure]))
        for target, values in result["figures"].items()
    ]
    return bars(f"{scenario.name}: {title}", rows)


def main() -> None:
    PLOTS.mkdir(parents=True, exist_ok=True)
    files = pages(load())
    for stale in set(PLOTS.glob("*.svg")) - files.keys():
        stale.unlink()
    for path, text in files.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
