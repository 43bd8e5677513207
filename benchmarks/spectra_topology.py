"""Spectra and topology of random directions at the size of a large SAE: seconds and peak memory.

    python -m benchmarks.spectra_topology                      16,384 directions of 1,024 dimensions
    python -m benchmarks.spectra_topology --rows 4096 --columns 512

Times are of one spectrum, one draw of each null with its spectrum, one set of diagrams and one
Mapper graph. A study multiplies them by its numbers of draws. ``numpy.linalg.svdvals``, of which
the original study used the complete form with vectors, is timed on the same directions.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.spectra.spectrum import spectrum_of
from analysis.statistics.direction_nulls import NULLS, draw_directions
from analysis.statistics.directions import unit_rows
from analysis.topology.mapper import Cell, mapper_graph
from analysis.topology.persistence import persistence_of
from analysis.topology.settings import TopologySettings


def main() -> None:
    """Time each step once and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--columns", type=int, default=1_024)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    directions = unit_rows(rng.standard_normal((args.rows, args.columns)))
    settings = TopologySettings()
    print(f"{args.rows:,} directions of {args.columns:,} dimensions")
    spectrum = timed("spectrum", lambda: spectrum_of(directions))
    singular = timed("numpy.linalg.svdvals", lambda: np.linalg.svdvals(centred(directions)))
    print(f"{'largest difference':28}{np.abs(spectrum.singular_values - singular).max():10.1e}")
    for null in NULLS:
        (drawn,) = timed(
            f"draw: {null}", lambda n=null: list(draw_directions(directions, n, draws=1, seed=0))
        )
        timed("  its spectrum", lambda d=drawn: spectrum_of(d))
    timed(f"diagrams, {settings.repeats} repeats", lambda: persistence_of(directions, settings))
    some = directions[: settings.points]
    timed("Mapper graph", lambda: mapper_graph(some, Cell(5, 0.5, 1.0), min_samples=3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'peak memory, GiB':28}{peak:10.2f}")


def centred(directions: Any) -> Any:
    """Return directions less their mean."""
    return directions - directions.mean(axis=0)


def timed(name: str, work: Callable[[], Any]) -> Any:
    """Run some work, print its seconds and return its result."""
    began = time.perf_counter()
    found = work()
    print(f"{name:28}{time.perf_counter() - began:10.2f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
