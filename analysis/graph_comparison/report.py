"""Comparisons of co-activation graphs: numbers with controls, and a conclusion in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analysis.graph_comparison.comparison import RANGE, Comparison, Row
from analysis.graph_comparison.distances import curves_of
from analysis.graph_comparison.matched_features import Partners, check_matched, read_partners
from analysis.graph_comparison.metrics import (
    community_rows,
    conserved_rows,
    coverage_rows,
    distance_rows,
)
from analysis.graph_comparison.settings import Chosen, ComparisonSettings
from analysis.graph_comparison.subjects import ComparedGraph, read_subjects
from analysis.statistics.nulls import strata
from analysis.statistics.permutation import exceedance_p
from atlas.api import Atlas
from atlas.errors import BadInput, Missing
from atlas.progress import SILENT, Progress
from atlas.studies.study import check_saes

__all__ = [
    "check_names",
    "check_some_matched",
    "compare_pairs",
    "conclude",
    "unmatched",
    "verdict_rows",
]

Pair = tuple[str, str]

# Kinds and measures of the rows that the verdict uses.
_IN_VERDICT = (
    ("distance", "degree: Kolmogorov-Smirnov"),
    ("distance", "clustering: Kolmogorov-Smirnov"),
    ("conserved", "share of A's edges"),
    ("conserved", "share of B's edges"),
    ("communities", "adjusted mutual information"),
)

# Which nulls the matches exceed.
_EXCEEDED: Mapping[Chosen, str] = {
    "both-nulls": "The matches exceed two of three nulls (shifted documents, shuffle of each token); the third "
    "(shuffle within documents) is not required, so tokens and documents alone may explain some.",
    "one-to-one": "The matches are one to one, and need not exceed any null.",
    "mutual": "The matches are mutual, and need not exceed any null.",
}

_LEVEL = 0.05
_FEWEST = 3  # fewest halvings for a comparison of ranges
_TOO_FEW = f"fewer than {_FEWEST} halvings, so they are not compared"


def check_names(atlas: Atlas, saes: Sequence[str]) -> list[str]:
    """Check the names of SAEs, and remove repetitions.

    Raises
    ------
    BadInput
        If fewer than two SAEs are selected.
    UnknownName
        If the atlas has no SAE of a name.
    """
    names = list(dict.fromkeys(saes))
    if len(names) < 2:
        raise BadInput(
            f"Two SAEs or more are needed; selected: {' '.join(names) or 'none'}. "
            "Run `atlas list` to see the SAEs of the atlas."
        )
    return check_saes(atlas, names)


def unmatched(atlas: Atlas, pairs: Sequence[Pair], s: ComparisonSettings) -> dict[Pair, str]:
    """Return the pairs that do not have the required matches, with the reason."""
    missing: dict[Pair, str] = {}
    for a, b in pairs:
        try:
            check_matched(atlas, a, b, matches=s.matches)
        except Missing as error:
            missing[a, b] = str(error)
    return missing


def check_some_matched(atlas: Atlas, names: Sequence[str], s: ComparisonSettings) -> None:
    """Check that at least one pair of SAEs is matched.

    Raises
    ------
    Missing
        If no pair is matched.
    """
    pairs = list(combinations(names, 2))
    missing = unmatched(atlas, pairs, s)
    if len(missing) == len(pairs):
        raise Missing(next(iter(missing.values())))


def compare_pairs(
    atlas: Atlas,
    pairs: Sequence[Pair],
    s: ComparisonSettings,
    *,
    names: Sequence[str],
    progress: Progress = SILENT,
) -> Iterator[Comparison]:
    """Compare the selected pairs of SAEs.

    Parameters
    ----------
    atlas
        The atlas.
    pairs
        Names of two SAEs each.
    s
        Settings of the comparison.
    names
        The SAEs whose graphs are cut to equal numbers of tokens: at least those of the pairs.
    progress
        Progress reporter.
    """
    missing = unmatched(atlas, pairs, s)
    partners = {
        pair: read_partners(atlas, *pair, matches=s.matches, level=s.level)
        for pair in pairs
        if pair not in missing
    }
    subjects = {x.of.sae: x for x in read_subjects(atlas, names, s, progress=progress)}
    for a, b in pairs:
        yield _compare(
            subjects[a], subjects[b], partners.get((a, b)), missing.get((a, b)), s, progress
        )


def _compare(
    a: ComparedGraph,
    b: ComparedGraph,
    partners: Partners | None,
    missing: str | None,
    s: ComparisonSettings,
    progress: Progress,
) -> Comparison:
    notes = _notes(a, b)
    rows = distance_rows(a, b)
    if partners is None:
        notes.append(f"Edges and communities are not compared: {missing}")
    elif not len(partners):
        notes.append(
            f"No match of {a.of.sae} and {b.of.sae} is {_chosen(s)}, so edges and communities "
            "are not compared. Run `atlas match` with more `draws`, or select other `matches`."
        )
    else:
        rows += coverage_rows(a, b, partners)
        stratum = strata(
            b.of.active[partners.b],
            b.full.degree[partners.b],
            frequency_bins=s.frequency_bins,
            degree_bins=s.degree_bins,
        )
        notes += _strata_notes(stratum, s)
        rows += conserved_rows(a, b, partners, stratum=stratum, progress=progress)
        rows += community_rows(a, b, partners, stratum=stratum)
    rows = [replace(row, a=a.of.sae, b=b.of.sae) for row in rows]
    # Community detection is expensive, so it is not repeated or run only for this number.
    sides = (a, b) if partners is not None and len(partners) else ()
    return Comparison(
        a=a.of.sae,
        b=b.of.sae,
        tokens=a.of.tokens,
        half_tokens=min([*a.half_tokens, *b.half_tokens], default=0),
        min_count=a.of.min_count,
        rows=rows,
        notes=notes,
        conclusion=conclude(a.of.sae, b.of.sae, rows, draws=s.draws, matches=s.matches),
        matches=0 if partners is None else len(partners),
        live=[int(side.live.sum()) for side in (a, b)],
        communities=[_number_of(side.communities[0]) for side in sides],
        curves=curves_of(a, b),
    )


def _number_of(labels: NDArray[np.int64]) -> int:
    return len(np.unique(labels[labels >= 0]))


def _chosen(s: ComparisonSettings) -> str:
    return {
        "both-nulls": f"one to one with q ≤ {s.level:g} under shifted documents and the shuffle of each token",
        "one-to-one": "one to one",
        "mutual": "mutual",
    }[s.matches]


def _notes(a: ComparedGraph, b: ComparedGraph) -> list[str]:
    notes = []
    wanted = a.settings.halves
    for of, of_halves in ((a.of, a.halves), (b.of, b.halves)):
        if not of.active.any():
            notes.append(f"No feature of {of.sae} is ever active, so there is nothing to compare.")
        elif not len(of.pairs):
            notes.append(f"{of.sae} has no edges at a count of {of.min_count:,} or more.")
        if of.tokens < of.counted:
            notes.append(
                f"{of.sae} was counted over {of.counted:,} tokens; its graph here is over "
                f"the first {of.tokens:,}."
            )
        if of.membership is None:
            notes.append(
                f"The codes of {of.sae} are not available, so there are no halves and no "
                "bipartite null; `atlas ingest --keep-codes --replace` stores them."
            )
        elif not (a.halves and b.halves):
            notes.append(
                f"There are no halves: the documents that {of.sae} shares with the others are "
                "too few, or too unequal in length."
            )
        elif len(of_halves) < wanted:
            notes.append(
                f"{wanted - len(of_halves)} of {wanted} halvings of the documents of {of.sae} were "
                "excluded, because their halves differ too much in tokens."
            )
    return notes


def _strata_notes(stratum: NDArray[np.int64], s: ComparisonSettings) -> list[str]:
    _, size = np.unique(stratum, return_counts=True)
    alone = int(np.sum(size == 1))
    return [
        f"{len(stratum):,} matches ({_chosen(s)}) are permuted within {len(size):,} strata (at most {s.frequency_bins} quantiles "
        f"of frequency, {s.degree_bins} of degree within each). Permutations do not move the {alone:,} matches "
        "that are alone in a stratum."
    ]


def conclude(
    a: str, b: str, rows: Sequence[Row], *, draws: int, matches: Chosen = "both-nulls"
) -> str:
    """Summarize a comparison in sentences.

    The row over halves is preferred. It has the value between halves of one SAE as a control, and
    the two graphs do not share text. What the matches cover, and which nulls they exceed, follows the
    result about edges.

    Parameters
    ----------
    a, b
        Names of the SAEs.
    rows
        The rows.
    draws
        Number of draws of each null; p = 0.05 needs at least 19.
    matches
        Which matches are used; see ``ComparisonSettings``.
    """
    degree, clustering, of_a, of_b, communities = (_pick(rows, *one) for one in _IN_VERDICT)
    sentences = [
        one
        for one in (
            _edges(of_a, of_b, draws),
            _coverage(rows, matches),
            _communities(communities, draws),
            _distance(degree, "Degrees"),
            _distance(clustering, "Clustering"),
        )
        if one
    ]
    return f"{a} (A) and {b} (B): " + (
        " ".join(sentences) if sentences else "there is nothing to compare."
    )


def verdict_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that ``conclude`` uses, at most one for each measure.

    Parameters
    ----------
    rows
        The rows of one comparison.
    """
    return [row for one in _IN_VERDICT if (row := _pick(rows, *one)) is not None]


def _pick(rows: Sequence[Row], kind: str, measure: str) -> Row | None:
    found = [row for row in rows if (row.kind, row.measure) == (kind, measure)]
    found.sort(key=lambda row: row.text != "halves")
    return next((row for row in found if row.value is not None), None)


def _distance(row: Row | None, name: str) -> str:
    if row is None or row.value is None or row.low is None or row.high is None:
        return ""
    text = f"{name} differ by KS {row.value:.3f}"
    if name == "Clustering":
        text = f"Clustering differs by KS {row.value:.3f}"
    of_self, of_null = row.itself_mean, row.null_mean
    if (
        row.limits != RANGE or (row.halvings or 0) < _FEWEST
    ):  # report the values without a comparison
        text += "" if of_self is None else f" ({of_self:.3f} between halves of one SAE; {_TOO_FEW})"
        return text + ("" if of_null is None else f"; {of_null:.3f} from the bipartite null") + "."
    if of_self is not None and row.itself_high is not None:
        more = _clearly(row.low > row.itself_high, "more")
        text += f", {more} than between halves of one SAE ({of_self:.3f})"
    if of_null is not None and row.null_low is not None:
        less = _clearly(row.high < row.null_low, "less")
        text += f", {less} than from the bipartite null ({of_null:.3f})"
    return text + "."


def _edges(one: Row | None, two: Row | None, draws: int) -> str:
    if one is None or two is None or one.value is None or two.value is None:
        return "No edge of A or of B has both ends matched, so conservation is not measured."
    text = f"Of the edges with both ends matched, {one.value:.1%} of A's and {two.value:.1%} of B's are conserved"
    if one.text == "halves":
        text += " over other documents"
    ps = [one.p, one.rewired_p, two.p, two.rewired_p]
    text += f", {_beyond(ps, draws, 'both nulls')}"
    if one.null_mean is not None and two.null_mean is not None:
        text += f" (permuted matches: {one.null_mean:.1%} and {two.null_mean:.1%}"
        if one.rewired_mean is not None and two.rewired_mean is not None:
            text += f"; swapped edges: {one.rewired_mean:.1%} and {two.rewired_mean:.1%}"
        text += f"; p = {_p(ps)})"
    return text + _both_short_of(one, two) + "."


def _coverage(rows: Sequence[Row], matches: Chosen) -> str:
    """State which features and edges are compared, and which nulls the matches exceed."""
    of = {(row.of, row.measure[9]): row.value for row in rows if row.kind == "coverage"}
    shares = [of.get((of_, side)) for of_ in ("features", "edges") for side in "AB"]
    if not of or None in shares:
        return ""
    features, edges = (
        f"{100 * float(x or 0):.0f}% and {100 * float(y or 0):.0f}%"
        for x, y in (shares[:2], shares[2:])
    )
    return (
        f"The matches cover {features} of the active features of A and B, and {edges} of their edges; "
        f"no others are compared. {_EXCEEDED[matches]}"
    )


def _communities(row: Row | None, draws: int) -> str:
    if row is None or row.value is None:
        return "Communities cannot be compared."
    text = (
        f"Communities agree with an AMI of {row.value:.2f}, {_beyond([row.p], draws, 'the null')}"
    )
    if row.null_mean is not None:
        text += f" (permuted matches: {row.null_mean:.2f}; p = {_p([row.p])})"
    less = _is_less(row)
    if less is None:
        return text + "."
    if (row.halvings or 0) < _FEWEST:
        return text + f"; {row.itself_mean:.2f} between halves of one SAE ({_TOO_FEW})."
    return (
        text
        + f", and {_clearly(less, 'less')} than between halves of one SAE ({row.itself_mean:.2f})."
    )


def _clearly(condition: bool, word: str) -> str:
    return word if condition else f"not clearly {word}"


def _beyond(ps: Sequence[float | None], draws: int, nulls: str) -> str:
    """State whether a number exceeds all its nulls; every null must have a p-value."""
    if exceedance_p(0, draws) > _LEVEL:
        return f"not tested against a null, which needs 19 draws or more instead of {draws:,}"
    known = [p for p in ps if p is not None]
    if len(known) < len(ps):
        return "not tested against a null, because permutations within strata hardly change the matches"
    return f"{_clearly(max(known) <= _LEVEL, 'more')} than under {nulls}"


def _p(ps: Sequence[float | None]) -> str:
    return f"{max(p for p in ps if p is not None):.2g}" if any(p is not None for p in ps) else "–"


def _is_less(row: Row) -> bool | None:
    """Return whether a number is below its value between halves of one SAE; None if unknown."""
    if row.itself_mean is None or row.itself_low is None or row.high is None:
        return None
    return row.high < row.itself_low


def _both_short_of(one: Row, two: Row) -> str:
    """Compare A's and B's edges with those of halves of one SAE."""
    less = [_is_less(row) for row in (one, two)]
    if None in less:
        return ""
    own = f"{one.itself_mean:.1%} and {two.itself_mean:.1%}"
    text = f"than between halves of one SAE ({own})"
    if less[0] == less[1]:
        return f", and {_clearly(bool(less[0]), 'less')} {text}"
    sides = [f"{_clearly(bool(x), 'less')} of {side}'s" for x, side in zip(less, "AB", strict=True)]
    return f", and {sides[0]} and {sides[1]} {text}"
