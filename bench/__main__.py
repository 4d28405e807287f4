"""`python -m bench [SCENARIO ...]`: measure, print tables, write results. Exit 1 where a limit does not hold."""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import uvloop

from bench import report, run
from bench.controlplane import control_plane
from bench.kernel import machine
from bench.kinds import ControlPlane, Cpu, Latency
from bench.place import Unavailable
from bench.scenarios import SCENARIOS


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Side by side with peers, on one machine.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds for each target (default 7)")
    parser.add_argument("--seconds", type=int, default=2, help="length of a round (default 2)")
    parser.add_argument("--only", metavar="TARGET,...", help="measure only these; the base is needed for ratios")
    parser.add_argument("--record", action="store_true", help="write to bench/results/, not to its scratch/")
    parser.add_argument("--list", action="store_true", help="show the scenarios and their targets")
    options = parser.parse_args()
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"scenario {name!r}: expected one of {', '.join(SCENARIOS)}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds: expected 1 or more")
    chosen = [SCENARIOS[name] for name in options.scenarios or SCENARIOS]
    targets = {target for scenario in chosen for target in scenario.targets}
    options.only = set(options.only.split(",")) if options.only else targets
    if unknown := options.only - targets:
        parser.error(f"--only {','.join(unknown)}: expected of {', '.join(sorted(targets))}")
    return options


async def measure(options: argparse.Namespace) -> bool:
    good = True
    for name in options.scenarios or SCENARIOS:
        scenario = report.narrowed(SCENARIOS[name], options.only)
        chosen = [target for target in scenario.targets if target in options.only]
        with tempfile.TemporaryDirectory(prefix="forebay-bench-") as directory:
            if isinstance(scenario, Cpu):
                figures = await run.cpu(
                    scenario, chosen, Path(directory), rounds=options.rounds, seconds=options.seconds
                )
            elif isinstance(scenario, Latency):
                figures = await run.latency(
                    scenario, chosen, Path(directory), rounds=options.rounds, seconds=options.seconds
                )
            elif isinstance(scenario, ControlPlane):
                figures = await control_plane(
                    scenario, chosen, Path(directory), rounds=options.rounds, seconds=options.seconds
                )
            else:
                figures = await run.memory(scenario, chosen, Path(directory))
        path = report.save(scenario, figures, record=options.record)
        print(report.table(scenario, figures))
        print(f"written to {path}\n", flush=True)
        good &= all(verdict.ok for verdict in report.verdicts(scenario, figures))
    return good


def main() -> int:
    options = arguments()
    if options.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name}: {scenario.about}\n    {', '.join(scenario.targets)}")
        return 0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # children inherit it; idle clients need many
    print(", ".join(f"{name} {value}" for name, value in machine().items()), "\n")
    try:
        return 0 if uvloop.run(measure(options)) else 1
    except (Unavailable, RuntimeError, AssertionError) as error:  # the last: a program did not start, and its words
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
