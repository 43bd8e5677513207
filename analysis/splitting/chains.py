"""Chains of edges over three widths, and how many of them a direct edge confirms."""

from typing import Any

import pandas as pd

from analysis.splitting.study import edges_of
from atlas.studies.results import Result, Results

__all__ = ["chain_rows", "chains", "describe_chains", "results_of_three"]

_COLUMNS = ["source", "target", "decoder_cosine", "parent_given_child", "child_given_parent"]


def chains(results: Results) -> pd.DataFrame:
    """Return the chains of a result over three SAEs.

    Parameters
    ----------
    results
        Results of ``analysis.splitting.study.find_splits`` for three SAEs.

    Returns
    -------
    A row for each feature of the widest SAE whose parent in the middle one has a parent itself:
    ``narrow``, ``middle`` and ``wide`` feature, the cosine and both conditional probabilities of each
    step, and whether there is a direct edge. Empty for two SAEs.
    """
    found = results_of_three(results)
    if found is None:
        return pd.DataFrame(columns=["narrow", "middle", "wide", "direct"])
    first, second, direct = (edges_of(one).select(_COLUMNS).to_pandas() for one in found)
    first = first.rename(columns={"source": "narrow", "target": "middle"})
    second = second.rename(columns={"source": "middle", "target": "wide"})
    table = first.merge(second, on="middle", suffixes=("_1", "_2"))
    known = set(zip(direct["source"], direct["target"], strict=True))
    ends = zip(table["narrow"], table["wide"], strict=True)
    table["direct"] = [pair in known for pair in ends]
    names = ["narrow", "middle", "wide", "direct"]
    rest = [name for name in table.columns if name not in names]
    ordered: pd.DataFrame = table[names + rest].sort_values(names[:3], ignore_index=True)
    return ordered


def describe_chains(results: Results) -> dict[str, Any] | None:
    """Return the number of chains and the share with a direct edge, or None for two SAEs.

    ``chance`` is the share of all pairs of ends of chains, the ends combined at random, that have a
    direct edge.
    """
    found = results_of_three(results)
    if found is None:
        return None
    table = chains(results)
    edges = edges_of(found[2])
    direct = set(zip(edges["source"].to_pylist(), edges["target"].to_pylist(), strict=True))
    counts = table["narrow"].value_counts(), table["wide"].value_counts()
    weight = sum(int(counts[0].get(a, 0)) * int(counts[1].get(b, 0)) for a, b in direct)
    number = len(table)
    return {
        "narrow": found[0]["narrow"],
        "middle": found[0]["wide"],
        "wide": found[1]["wide"],
        "chains": number,
        "direct": int(table["direct"].sum()),
        "direct_share": float(table["direct"].mean()) if number else None,
        "chance": weight / number**2 if number else None,
    }


def chain_rows(results: Results) -> list[dict[str, Any]]:
    """Return the chains as rows of a table, those of the parents with most grandchildren first.

    Columns are ``narrow``, ``middle``, ``wide``, ``first_given_second`` and ``second_given_third``
    (the share of the child's tokens on which the parent is active), ``direct``, and ``grandchildren``.
    """
    table = chains(results)
    if table.empty:
        return []
    number = table.groupby("narrow")["wide"].transform("nunique")
    ordered = table.assign(grandchildren=number).sort_values(
        ["grandchildren", "narrow", "middle", "wide"], ascending=[False, True, True, True]
    )
    shares = {
        "parent_given_child_1": "first_given_second",
        "parent_given_child_2": "second_given_third",
    }
    columns = ["narrow", "middle", "wide", *shares.values(), "direct", "grandchildren"]
    rows = ordered.rename(columns=shares)[columns].to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def results_of_three(results: Results) -> tuple[Result, Result, Result] | None:
    """Return the results of (narrow, middle), (middle, wide) and (narrow, wide); None for two SAEs."""
    by_pair = {(one["narrow"], one["wide"]): one for one in results if not one.floor}
    for (a, b), first in by_pair.items():
        for (other, c), second in by_pair.items():
            if b == other and (a, c) in by_pair:
                return first, second, by_pair[a, c]
    return None
