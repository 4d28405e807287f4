"""`python -m tests.simulation`: the autoscaler's scoreboard. See docs/reference/scoreboard.md.

--closing    the unseen seeds too (a third of all): not to be looked at while something is being tuned
--record     write the tables and plots under docs/reference
--only A,B   only these traces (by function name)
--jobs N     processes (default: as many as there are cores)
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.scale.plots import plot
from tests.simulation.scale.report import document, tables
from tests.simulation.scale.score import SCALERS, Score, run
from tests.simulation.scale.traces import TRACES

SEEDS = (1, 2, 3, 4)
UNSEEN = (7, 8)
DOCS = Path(__file__).parents[2] / "docs" / "reference"


def one(job: tuple[str, str, int]) -> Score:
    name, scaler, seed = job
    return run(next(trace for trace in TRACES if trace.__name__ == name), scaler, seed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="The autoscaler's scoreboard.")
    parser.add_argument("--closing", action="store_true", help="the unseen seeds too")
    parser.add_argument("--record", action="store_true", help="write tables and plots under docs/reference")
    parser.add_argument("--only", default="", help="only these traces, by function name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    known = [trace.__name__ for trace in TRACES]
    names = options.only.split(",") if options.only else known
    if unknown := set(names) - set(known):
        parser.error(f"no such trace: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options.record and options.only:
        parser.error("--record is for all traces")
    seeds = SEEDS + (UNSEEN if options.closing else ())
    jobs = [(name, scaler, seed) for name in names for scaler in SCALERS for seed in seeds]
    with ProcessPoolExecutor(options.jobs) as pool:
        scores = list(pool.map(one, jobs))
    unseen = UNSEEN if options.closing else ()
    print(tables(scores, unseen))
    if options.record:
        (DOCS / "scoreboard.md").write_text(document(scores, unseen), "utf-8")
        (DOCS / "scoreboard").mkdir(exist_ok=True)
        for name, trace in {s.trace: t for t in TRACES for s in scores if s.trace == t().name}.items():
            shown = [s for s in scores if s.trace == name and s.seed == 1]
            (DOCS / "scoreboard" / f"{trace.__name__}.svg").write_text(plot(shown), "utf-8")
    wrong = [s for s in scores if s.scaler.startswith("forebay") and s.right < 0.95]
    for score in wrong:
        print(f"{score.trace}, {score.scaler}, seed {score.seed}: {score.right:.1%} of ticks right, expected 95 %")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
