"""Forecasts of all studies compared with their work on the demo.

    python -m benchmarks.study_forecasts demo.atlas --wall
    OMP_NUM_THREADS=1 python -m benchmarks.study_forecasts demo.atlas

The atlas is that of ``atlas demo``. Each study runs in a process of its own, as a command does, with
its default settings on one SAE, one pair of SAEs or one model; its stored results are computed again.
Commands forecast the time of a clock. ``--wall`` measures samples and work by the clock, on an idle
machine. Without it both are in processor time, which other work on the machine lengthens less.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import analysis
from analysis.residual.settings import ResidualSettings
from atlas.cli.output.tables import print_table
from atlas.progress import Silent
from atlas.studies import forecast as forecasts
from atlas.studies import runner
from atlas.studies.results import Results
from ingest.demo.build import demo_text
from ingest.match.study import match_saes
from ingest.probe.settings import ProbeSettings
from ingest.probe.study import probe_saes

__all__ = ["STUDIES", "Measured", "measure"]

SAE, PAIR = "tiny-a-l1-s0", ["tiny-a-l1-s0", "tiny-a-l1-s1"]
WIDE = ["tiny-a-l1-s0", "tiny-a-l1-wide"]
_CPU = {"device": "cpu"}


def _residual(**options: Any) -> Results:
    """Run a residual study on a part of the text of the demo, in an atlas of its own."""
    settings = ResidualSettings(target="blocks.1.hook_resid_post", draws=1, text_tokens=60_000)
    with tempfile.TemporaryDirectory() as scratch:
        found = analysis.residual_study(
            Path(scratch) / "residual.atlas",
            model="tiny-a",
            text=demo_text(),
            settings=settings,
            **_CPU,
            **options,
        )
        return Results([found])


#: Each study by its command: a function from an atlas and keywords of the run to results.
STUDIES: Mapping[str, Callable[..., Results]] = {
    f"changes {SAE}/16": lambda a, **k: analysis.compare_states(a, [f"{SAE}/16"], **_CPU, **k),
    f"communities {SAE}": lambda a, **k: analysis.graph_features(a, [SAE], **k),
    f"compare-graphs {' '.join(PAIR)}": lambda a, **k: analysis.compare_graphs(a, PAIR, **k),
    f"concepts gender {SAE}": lambda a, **k: analysis.study_concepts(a, "gender", [SAE], **k),
    f"describe {SAE}": lambda a, **k: analysis.measure_interpretability(a, [SAE], **k),
    f"directions {' '.join(PAIR)}": lambda a, **k: analysis.nearest_directions(a, PAIR, **k),
    "effects tiny-a-l0-s0": lambda a, **k: analysis.measure_effects(
        a, ["tiny-a-l0-s0"], **_CPU, **k
    ),
    f"graph-stats {SAE}": lambda a, **k: analysis.graph_statistics(a, [SAE], **k),
    f"logits {SAE}": lambda a, **k: analysis.measure_logits(a, [SAE], **_CPU, **k),
    f"feature-map {SAE}": lambda a, **k: analysis.map_features(a, [SAE], **k),
    f"match {' '.join(PAIR)}": lambda a, **k: match_saes(a, PAIR, **k),
    f"match-graphs {' '.join(PAIR)}": lambda a, **k: analysis.find_counterparts(a, PAIR, **k),
    f"positions {SAE}": lambda a, **k: analysis.activation_by_position(a, [SAE], **k),
    f"probe {SAE} --from hook_embed": lambda a, **k: probe_saes(
        a, [SAE], sites=["hook_embed"], **_CPU, **k
    ),
    f"probe {SAE} --from hook_embed --features 100": lambda a, **k: probe_saes(
        a, [SAE], sites=["hook_embed"], settings=ProbeSettings(features=100), **_CPU, **k
    ),
    "residual --to blocks.1.hook_resid_post --draws 1, 60,000 tokens": lambda _, **k: _residual(
        **k
    ),
    f"similarity {' '.join(PAIR)}": lambda a, **k: analysis.compare_spaces(a, PAIR, **k),
    f"spectra {SAE}": lambda a, **k: analysis.measure_spectra(a, [SAE], **k),
    f"splitting {' '.join(WIDE)}": lambda a, **k: analysis.find_splits(a, WIDE, **k),
    f"steer --sae {SAE} --task feelings": lambda a, **k: analysis.steer_task(
        a, "feelings", saes=[SAE], **_CPU, **k
    ),
    f"subspaces {' '.join(PAIR)}": lambda a, **k: analysis.compare_concepts(a, PAIR, **k),
    f"topology {SAE}": lambda a, **k: analysis.measure_topology(a, [SAE], **k),
    "transcoder": lambda a, **k: analysis.map_sites(a, targets=["all"], **_CPU, **k),
}


@dataclass(frozen=True)
class Measured:
    """A run of a study, in seconds of one clock: of processor time, or of the time that passed.

    Parameters
    ----------
    results
        Its results.
    forecast
        The forecast of the work; None if the study has none.
    work
        The work, without the forecast and without what precedes it.
    cost
        The samples of the forecast.
    total
        All of these, and what precedes the forecast.
    wall
        Seconds that passed during ``total``.
    """

    results: Results
    forecast: float | None
    work: float
    cost: float
    total: float
    wall: float


def measure(
    study: Callable[..., Results],
    atlas: str,
    *,
    clock: Callable[[], float] = time.process_time,
    **options: Any,
) -> Measured:
    """Run a study, and compare its forecast with its work."""
    began, wall = clock(), time.perf_counter()
    with _watched(clock) as seen:
        # Not SILENT, for which there is no forecast.
        results = study(atlas, replace=True, progress=Silent(), **options)
    ended = clock()
    return Measured(
        results,
        seen.get("forecast"),
        ended - seen.get("ended", began),
        seen.get("ended", began) - seen.get("began", began),
        ended - began,
        time.perf_counter() - wall,
    )


def row_of(name: str, atlas: str, *, wall: bool = False) -> dict[str, Any]:
    """Run a study, and return its row of the table."""
    clock = time.perf_counter if wall else time.process_time
    found = measure(STUDIES[name], atlas, clock=clock)
    return {
        "command": name,
        "forecast_s": found.forecast and round(found.forecast, 1),
        "work_s": round(found.work, 1),
        "ratio": found.forecast and round(found.forecast / found.work, 2),
        "cost_s": round(found.cost, 1),
        "total_s": round(found.total, 1),
        "wall_s": round(found.wall, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def _in_own_process(name: str, atlas: str, *, wall: bool) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.study_forecasts", atlas, "--one", name]
    words += ["--wall"] if wall else []
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


@contextmanager
def _watched(now: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Yield the seconds of a forecast, and when it began and ended."""
    forecast, seen = runner._forecast, {}

    def watch(*args: Any, **named: Any) -> Any:
        if "began" in seen:  # of a study that this study runs
            return forecast(*args, **named)
        seen["began"] = now()
        found = forecast(*args, **named)
        seen["ended"] = now()
        if found is not None and found.seconds is not None:
            seen["forecast"] = found.seconds
        return found

    clock = {"clock": now}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(runner, "_forecast", watch))
        # All samples of studies are timed by this function.
        stack.enter_context(mock.patch.dict(forecasts.timed.__kwdefaults__, clock))
        yield seen


def main() -> None:
    """Run the studies, and print the forecast and the work of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("atlas", help="The folder of the demo atlas.")
    parser.add_argument("--only", default="", help="Only studies whose command contains this.")
    parser.add_argument("--one", choices=list(STUDIES), help="Only this study, in this process.")
    parser.add_argument(
        "--wall", action="store_true", help="Measure by the clock; the machine should be idle."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(row_of(args.one, args.atlas, wall=args.wall)))
        return
    rows = []
    for name in STUDIES:
        if args.only in name:
            rows.append(_in_own_process(name, args.atlas, wall=args.wall))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(rows))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
