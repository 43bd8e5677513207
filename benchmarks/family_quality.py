"""The quality tables of docs/results/training.md: SAEs of `examples/train_family.py`, with their floors.

Each row has the mean over the seeds of a site and width, and for trained SAEs the lowest and
highest FVU.

    python -m benchmarks.family_quality family/stories260K
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from atlas.amounts import span
from atlas.studies.floors import ROLES
from benchmarks.recovery import table

#: Heading of each column, and the column of the file.
MEASURED = {
    "FVU": "fvu",
    "dead": "dead_share",
    "recovered": "recovered_mean",  # relative to mean ablation
    "KL": "kl_spliced",
}


def stored_quality(family: Path) -> pd.DataFrame:
    """Return a row for each measured SAE of a folder of `atlas train`: its training record and its quality."""
    rows = []
    for path in sorted(family.glob("*/quality.json")):
        record = json.loads(path.with_name("training.json").read_text("utf-8"))
        about = {name: record[name] for name in ("site", "width", "seed", "role")}
        rows.append(about | json.loads(path.read_text("utf-8"))["quality"])
    roles = pd.CategoricalDtype(ROLES, ordered=True)
    order = ["site", "width", "role", "seed"]
    return pd.DataFrame(rows).astype({"role": roles}).sort_values(order).astype({"role": str})


def quality_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each site and width: means over seeds of each role.

    Parameters
    ----------
    rows
        Rows of ``stored_quality``.

    Examples
    --------
    >>> measured = {"fvu": [0.1, 0.2], "dead_share": 0.0, "recovered_mean": 0.9, "kl_spliced": 0.3}
    >>> about = {"site": "blocks.0.hook_mlp_out", "width": 8, "role": "trained"}
    >>> quality_table(pd.DataFrame(about | measured))[0]["FVU, trained"]
    '0.150 (0.100 to 0.200)'
    """
    roles = list(dict.fromkeys(rows["role"]))
    found = []
    for (site, width), group in rows.groupby(["site", "width"], sort=False):
        row: dict[str, Any] = {"site": site, "width": width}
        for heading, column in MEASURED.items():
            for role in roles:
                values = group.loc[group["role"] == role, column].dropna()
                row[f"{heading}, {role}"] = _shown(
                    values, limits=(heading, role) == ("FVU", "trained")
                )
        found.append(row)
    return found


def _shown(values: Sequence[float] | pd.Series, *, limits: bool) -> str:
    """Return the mean of the seeds, and their range on request."""
    if not len(values):
        return ""
    shown = f"{float(pd.Series(values).mean()):.3f}"
    return f"{shown} ({span(list(values), digits=3)})" if limits and len(values) > 1 else shown


def main() -> None:
    """Print the table of a family, with what all its SAEs have in common."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", type=Path, help="The folder of the SAEs of a model.")
    rows = stored_quality(parser.parse_args().family)
    seeds = rows["seed"].nunique()
    print(f"{len(rows)} SAEs, {seeds} seeds, L0 {span(list(rows['l0']), digits=2)}, ", end="")
    print(
        f"{rows['tokens'].iloc[0]:,} held-out tokens, loss of the model {rows['ce_model'].iloc[0]:.3f}\n"
    )
    print(table(quality_table(rows)))
    error = (rows["ce_error_term"] - rows["ce_model"]).abs().max()
    print(f"\nWith its error added, each SAE changes the loss by at most {error:.1g} nats.")


if __name__ == "__main__":
    main()
