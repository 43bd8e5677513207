"""Forecasts of studies compared with their work, in processor time of one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.study_forecasts demo.atlas

The atlas is that of ``atlas demo``; its stored results are computed again. Commands report wall
time. Here samples are timed by processor time, which other work on the machine lengthens less.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from analysis import (
    ComparisonSettings,
    GraphMatchingSettings,
    compare_graphs,
    find_counterparts,
    map_sites,
)
from atlas.cli.output import print_table
from atlas.progress import Silent
from atlas.studies import runner
from ingest.probe.settings import ProbeSettings
from ingest.probe.study import probe_saes

PAIR = ["tiny-a-l1-s0", "tiny-a-l1-s1"]

#: Modules that time samples.
TIMED = (
    "analysis.graph.draw_cost",
    "analysis.graph_comparison.forecast",
    "analysis.graph_matching.forecast",
    "analysis.transcoder.study",
    "ingest.match.study",
    "ingest.probe.study",
)


def studies(atlas: str) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """Yield the name of each study, and a function that runs it."""
    for label, probe in (("all features", ProbeSettings()), ("100", ProbeSettings(features=100))):
        yield (
            f"probe, {label}",
            lambda progress, s=probe: probe_saes(
                atlas, PAIR[:1], sites=["hook_embed"], settings=s, device="cpu", replace=True,
                progress=progress,
            ),
        )  # fmt: skip
    comparison = ComparisonSettings(draws=20, halves=1, null_graphs=1, leiden_runs=1)
    yield (
        "compare, 20 draws, one halving",
        lambda progress: compare_graphs(
            atlas, PAIR, settings=comparison, replace=True, progress=progress
        ),
    )
    matching = GraphMatchingSettings(repeats=1)
    yield (
        "counterparts, one repeat",
        lambda progress: find_counterparts(
            atlas, PAIR, settings=matching, replace=True, progress=progress
        ),
    )
    yield (
        "transcoder",
        lambda progress: map_sites(
            atlas, targets=["all"], device="cpu", replace=True, progress=progress
        ),
    )


def processor_timed(work: Callable[[], object]) -> float:
    """Return the processor seconds of a call."""
    began = time.process_time()
    work()
    return max(time.process_time() - began, 1e-9)


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Yield the seconds of a forecast, and when it began and ended."""
    forecast, seen = runner._forecast, {}

    def measure(*args: Any, **named: Any) -> Any:
        seen["began"] = time.process_time()
        found = forecast(*args, **named)
        seen["ended"] = time.process_time()
        groups = found._costs if found is not None and found._costs else []
        seen["forecast"] = sum(cost.seconds for group in groups for cost in group)
        return found

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(runner, "_forecast", measure))
        for name in TIMED:
            module = importlib.import_module(name)
            stack.enter_context(mock.patch.object(module, "timed", processor_timed))
        yield seen


def main() -> None:
    """Run the studies, and print the forecast and the work of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("atlas", help="The folder of the demo atlas.")
    parser.add_argument("--only", default="", help="Only studies whose name contains this.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    rows = []
    for name, work in studies(args.atlas):
        if args.only not in name:
            continue
        with watched() as seen:
            work(Silent())  # not SILENT, for which there is no forecast
            took = time.process_time() - seen["ended"]
        rows.append(
            {
                "study": name,
                "forecast_s": round(seen["forecast"], 1),
                "work_s": round(took, 1),
                "ratio": round(seen["forecast"] / took, 2),
                "cost_s": round(seen["ended"] - seen["began"], 1),
            }
        )
    if args.json:
        print(json.dumps(rows))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
