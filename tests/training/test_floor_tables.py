"""The tables of docs/results/floors.md and docs/results/training.md: SciPy as reference."""

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.family_quality import quality_table
from benchmarks.floors import sites_table

HOOKS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.0.hook_mlp_out")


def rows_of(statistic, *, hooks=HOOKS, widths=(8, 16), seeds=(0, 1, 2)):
    draw = np.random.default_rng(len(statistic))
    return [
        {"statistic": statistic, "hook": h, "d_sae": w, "seed": s, "auc": draw.uniform(0.4, 0.6)}
        for h in hooks
        for w in widths
        for s in seeds
    ]


def test_auc_by_site_and_pooled_over_seeds():
    rows = rows_of("degree")
    (row,) = sites_table(pd.DataFrame(rows))
    assert list(row) == ["statistic", "0 mlp_out", "0 resid_post", "1 resid_post", "pooled"]
    at_site = [r["auc"] for r in rows if r["hook"] == "blocks.0.hook_mlp_out"]
    assert row["0 mlp_out"] == f"{sum(at_site) / 6:.2f}"
    seeds = [np.mean([r["auc"] for r in rows if r["seed"] == s]) for s in range(3)]
    low, high = stats.t.interval(0.95, 2, np.mean(seeds), stats.sem(seeds))
    assert row["pooled"] == f"{np.mean(seeds):.2f} ({low:.2f} to {high:.2f})"


def test_a_statistic_of_some_sites_and_of_one_seed():
    rows = rows_of("degree") + rows_of("best_match", hooks=HOOKS[:1], seeds=(0,))
    full, part = sites_table(pd.DataFrame(rows))
    assert (full["statistic"], part["statistic"]) == ("degree", "best_match")
    assert part["1 resid_post"] == part["0 mlp_out"] == ""
    assert part["pooled"] == part["0 resid_post"]  # one seed has no interval


def test_a_site_that_has_not_every_seed_is_not_pooled():
    rows = [r for r in rows_of("degree") if (r["hook"], r["seed"]) != (HOOKS[1], 2)]
    (row,) = sites_table(pd.DataFrame(rows))
    pooled = np.mean([r["auc"] for r in rows if r["hook"] != HOOKS[1]])
    assert row["pooled"].startswith(f"{pooled:.2f} (")


def test_quality_is_the_mean_over_seeds():
    columns = ("dead_share", "recovered_mean", "kl_spliced")
    rows = [
        {"site": HOOKS[0], "width": 8, "role": role, "seed": s, "fvu": base + s / 100}
        | dict.fromkeys(columns, base)
        for role, base in (("trained", 0.1), ("untrained", 0.9))
        for s in range(3)
    ]
    (row,) = quality_table(pd.DataFrame(rows))
    assert row["FVU, trained"] == "0.110 (0.100 to 0.120)"
    assert row["FVU, untrained"] == "0.910"
    assert row["KL, untrained"] == "0.900"
    without = quality_table(pd.DataFrame(rows).assign(kl_spliced=np.nan))
    assert without[0]["KL, trained"] == ""  # a model without head


def test_an_area_that_is_equal_for_all_seeds():
    (row,) = sites_table(pd.DataFrame([r | {"auc": 0.5} for r in rows_of("l0")]))
    assert row["pooled"] == "0.50 (0.50 to 0.50)"
