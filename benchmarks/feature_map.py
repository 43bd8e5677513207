"""Time and quality of a map, and of the nearest directions, by number of features.

The rows are directions in clusters of different sizes, half of them noise. Each table row is one
size; times are seconds of processor time, and with OMP_NUM_THREADS=1 of one thread. The time of a map is that of its nearest rows, PCA, one UMAP, and its
quality; `atlas feature-map` computes one more UMAP for each other seed (two by default).

    python -m benchmarks.feature_map
    python -m benchmarks.feature_map --features 32768 --width 768
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from analysis.feature_map.embedding import UmapSettings, map_coordinates, principal_axes
from analysis.feature_map.page import save_page
from analysis.feature_map.panels import Panel
from analysis.feature_map.quality import quality
from analysis.near_direction.null import direction_p
from analysis.statistics.directions import Rows, nearest, unit_rows
from atlas.cli.output.tables import print_table

#: Share of rows in a cluster, and rows of a cluster on average.
CLUSTERED, CLUSTER = 0.5, 30


def rows_of(features: int, width: int, *, seed: int = 0) -> Rows:
    """Return unit rows, half of them in clusters."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((features, width), dtype=np.float32)
    inside = rng.random(features) < CLUSTERED
    centres = rng.standard_normal((max(features // CLUSTER, 1), width), dtype=np.float32)
    label = rng.integers(len(centres), size=features)
    rows[inside] = 0.7 * rows[inside] + centres[label[inside]]
    return unit_rows(rows, dtype=np.float32)


def measured(features: int, width: int, *, draws: int) -> dict[str, Any]:
    """Return the seconds of each step for one size."""
    rows = rows_of(features, width)
    seconds: dict[str, Any] = {"features": features, "width": width}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        begin = time.process_time()
        found = step()
        seconds[name] = round(time.process_time() - begin, 1)
        return found

    near = timed("nearest", lambda: nearest(rows, k=15))
    start, _ = timed("pca", lambda: principal_axes(rows))
    points = timed(
        "umap", lambda: map_coordinates(rows, near, settings=UmapSettings(), start=start)
    )
    found = timed("quality", lambda: quality(rows, points, near.index, k=15))
    seconds["map"] = round(sum(seconds[name] for name in ("nearest", "pca", "umap", "quality")), 1)
    groups = np.zeros(features, dtype=np.int64)
    timed(
        "null",
        lambda: direction_p(
            rows, rows, near.cosine, groups=groups, draws=draws, seed=0, within=True
        ),
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "map.html"
        timed("page", lambda: save_page([_panel(points)], path))
        seconds["page MB"] = round(path.stat().st_size / 1e6, 1)
    return seconds | {
        "trustworthiness": found.trustworthiness,
        "overlap": found.overlap,
        "random": found.chance,
    }


def _panel(points: Any) -> Panel:
    n = len(points)
    none = np.full(n, -1, dtype=np.int64)
    return Panel(
        "map",
        (),
        ("", ""),
        points,
        [f"sae/{i}" for i in range(n)],
        ["token"] * n,
        none + 1,
        ("all",),
        ("#4c78a8",),
        none,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=int, nargs="+", default=[2048, 8192, 32_768])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--draws", type=int, default=20)
    chosen = parser.parse_args()
    measured(600, chosen.width, draws=2)  # compiles UMAP's loops
    print_table([measured(n, chosen.width, draws=chosen.draws) for n in chosen.features])


if __name__ == "__main__":
    main()
