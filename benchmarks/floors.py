"""The tables of docs/results/floors.md: each statistic on trained SAEs and floors, with its AUC.

The atlas has trained SAEs and floors, such as one of `examples/ingest_family.py`. A family is the
SAEs of one site, width and k. The first table has the lowest and highest AUC over all families for
each role of floors. The next ones have, for each role, the AUC of each statistic of features at
each site, and pooled over the sites with an interval over seeds. The last ones have the values of
one family.

    python -m benchmarks.floors family/stories260K.atlas
    python -m benchmarks.floors family/stories260K.atlas --width 512 \\
        --family stories260k-blocks.2.hook_mlp_out-topk-512-k16
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import compare_with_floors
from analysis.floors.separation import mean_over_seeds
from atlas.amounts import span
from atlas.api import Atlas
from atlas.progress import Bars
from atlas.studies.results import Results
from benchmarks.recovery import table

SEPARATES = 0.2
"""Distance of the AUC from 0.5 above which the summary counts a statistic as separating."""


def values(results: Results) -> pd.DataFrame:
    """Return the rows of all families, with the name of the family."""
    frames = [r.to_pandas("statistics").assign(family=r["family"]) for r in results]
    return pd.concat(frames, ignore_index=True)


def areas(results: Results, saes: pd.DataFrame) -> pd.DataFrame:
    """Return the AUC of each statistic for each trained SAE and role of floors, with site, width and seed."""
    every = pd.concat([r.to_pandas("areas") for r in results], ignore_index=True)
    return every.join(saes[["hook", "d_sae", "seed"]], on="sae")


def sites_table(every: pd.DataFrame, *, level: float = 0.95) -> list[dict[str, Any]]:
    """Return a row for each statistic: its AUC at each site, and pooled over sites.

    The AUC of a site is the mean over its widths and seeds. The pooled AUC of a seed is the mean
    over the sites and widths of that seed; its interval is Student's t over seeds. A statistic
    that is stored for some of the sites only is pooled over these.

    Parameters
    ----------
    every
        Rows of ``areas`` of one role.
    level
        Confidence level.

    Examples
    --------
    >>> rows = pd.DataFrame({"statistic": "x", "hook": "blocks.0.hook_mlp_out", "d_sae": 8,
    ...                      "seed": [0, 1], "auc": [0.5, 0.7]})
    >>> sites_table(rows)
    [{'statistic': 'x', '0 mlp_out': '0.60', 'pooled': '0.60 (0.00 to 1.00)'}]
    """
    hooks = sorted(every["hook"].unique(), key=lambda hook: (hook.split(".")[-1], hook))
    found = []
    for name, group in every.groupby("statistic", sort=False):
        row: dict[str, Any] = {"statistic": name}
        means = group.groupby("hook")["auc"].mean()
        for hook in hooks:
            row[_short(hook)] = f"{means[hook]:.2f}" if hook in means.index else ""
        by_site = group.groupby(["seed", "hook", "d_sae"])["auc"].mean().unstack("seed")
        by_seed = by_site.dropna().mean()  # the same sites for all seeds
        pooled = mean_over_seeds(list(by_seed), level=level, least=0, most=1)
        row["pooled"] = area({"auc": pooled.value, "auc_low": pooled.low, "auc_high": pooled.high})
        found.append(row)
    return found


def _short(hook: str) -> str:
    """Return the block and the kind of a site: blocks.2.hook_mlp_out is 2 mlp_out."""
    return hook.removeprefix("blocks.").replace(".hook_", " ")


def number(value: float, low: float, high: float) -> str:
    """Return a mean with its interval over seeds."""
    if pd.isna(value):
        return ""
    interval = "" if pd.isna(low) else f" ({low:.3g} to {high:.3g})"
    return f"{value:.3g}{interval}"


def area(row: Mapping[str, Any]) -> str:
    """Return an AUC with its interval over seeds."""
    if pd.isna(row["auc"]):
        return ""
    interval = (
        "" if pd.isna(row["auc_low"]) else f" ({row['auc_low']:.2f} to {row['auc_high']:.2f})"
    )
    return f"{row['auc']:.2f}{interval}"


def family_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each statistic of a family: trained, and for each role value and AUC."""
    found = []
    for (of, name), group in rows.groupby(["of", "statistic"], sort=False):
        one = group.iloc[0]
        row = {
            "statistic": name + (" (SAE)" if of == "SAE" else ""),
            "trained": number(one["trained"], one["trained_low"], one["trained_high"]),
        }
        for _, each in group.iterrows():
            row[each["role"]] = number(each["floor"], each["floor_low"], each["floor_high"])
            row[f"AUC, {each['role']}"] = area(each)
        found.append(row)
    return found


def summary(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each statistic: the range of its AUC over families, by role."""
    found = []
    roles = list(dict.fromkeys(rows["role"]))
    for (of, name), group in rows.dropna(subset="auc").groupby(["of", "statistic"], sort=False):
        row = {"statistic": name + (" (SAE)" if of == "SAE" else "")}
        for role in roles:
            areas = group.loc[group["role"] == role, "auc"]
            row[role] = span(list(areas), digits=2) if len(areas) else ""
        found.append(row)
    return found


def counts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each role how many statistics of features separate it in every family.

    The AUC of a statistic of SAEs ranks a few seeds, so 0 and 1 are frequent without any effect.
    """
    known = rows[rows["of"] == "features"].dropna(subset="auc")
    far = (known["auc"] - 0.5).abs() > SEPARATES
    same = (
        known.assign(far=far, up=known["auc"] > 0.5)
        .groupby(["role", "of", "statistic"])
        .agg(far=("far", "all"), up=("up", "nunique"))
        .reset_index()
    )
    return [
        {
            "role": role,
            "statistics of features": len(group),
            f"AUC beyond 0.5 ± {SEPARATES:g} in one direction in every family": int(
                (group["far"] & (group["up"] == 1)).sum()
            ),
        }
        for role, group in same.groupby("role", sort=False)
    ]


def show(rows: pd.DataFrame, every: pd.DataFrame, families: Sequence[str]) -> None:
    """Print the tables as Markdown."""
    names = list(dict.fromkeys(rows["family"]))
    print(f"Families ({len(names)}): {', '.join(names)}\n")
    print(table(summary(rows)), end="\n\n")
    print(table(counts(rows)), end="\n\n")
    for role, group in every.groupby("role", sort=False):
        print(f"Trained compared with {role}: AUC of features at each site, and pooled\n")
        print(table(sites_table(group)), end="\n\n")
    for name in families:
        print(f"`{name}`\n")
        print(table(family_table(rows[rows["family"] == name])), end="\n\n")


def main() -> None:
    """Print the tables of an atlas."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--family", action="append", help="Families to print. Default: all.")
    parser.add_argument("--width", type=int, help="Only SAEs of this width. Default: all.")
    options = parser.parse_args()
    with Atlas.open(options.atlas) as atlas:
        saes = atlas.table("SAE").to_pandas().set_index("name")
    chosen = saes[(saes["role"] == "trained") & (saes["d_sae"] == options.width)]
    names = list(chosen.index) if options.width else None
    results = compare_with_floors(options.atlas, names, progress=Bars())
    rows = values(results)
    families = list(dict.fromkeys(rows["family"]))
    if unknown := set(options.family or ()) - set(families):
        parser.error(f"no family is named {min(unknown)!r}; there are: {', '.join(families)}")
    show(rows, areas(results, saes), options.family or families)


if __name__ == "__main__":
    main()
