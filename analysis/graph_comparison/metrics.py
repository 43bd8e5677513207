"""Rows of a comparison of two SAEs: numbers with intervals and controls."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.graph.coactivation_graph import CoactivationGraph
from analysis.graph_comparison import conserved as edges
from analysis.graph_comparison.communities import (
    Labels,
    jackknife,
    overlap,
    overlap_null,
    own_overlap,
)
from analysis.graph_comparison.comparison import INTERVAL, RANGE, STANDARD_ERROR, Row, range_of
from analysis.graph_comparison.distances import MEASURES, bins_of, bootstrap, distances
from analysis.graph_comparison.matched_features import Partners
from analysis.graph_comparison.settings import ComparisonSettings
from analysis.graph_comparison.subjects import ComparedGraph
from analysis.statistics.nulls import movable
from analysis.statistics.permutation import permutation_p
from atlas.progress import SILENT, Progress

__all__ = ["community_rows", "conserved_rows", "coverage_rows", "distance_rows"]

Floats = NDArray[np.float64]

_DEGREE, _OVER_MEAN = "degree", "degree over mean"
_COUNTED = (_DEGREE, _OVER_MEAN, "core", "strength")  # compared with logarithmic bins
_STATISTICS = (_DEGREE, _OVER_MEAN, "clustering", "core", "strength")
_NAMES = {
    "ks": "Kolmogorov-Smirnov",
    "wasserstein": "1-Wasserstein",
    "js_distance": "Jensen-Shannon distance",
    "js_divergence": "Jensen-Shannon divergence",
}
_SHARES = {
    "share_ab": "share of A's edges",
    "share_ba": "share of B's edges",
    "jaccard": "Jaccard",
    "weights": "rank correlation of weights",
}


def distance_rows(a: ComparedGraph, b: ComparedGraph) -> list[Row]:
    """Compute distances between distributions of degree, clustering, core number and strength.

    Distributions are over live features. Distances over all tokens are compared with the
    bipartite null. Distances over halves of the documents are also compared with those between
    the halves of one SAE.
    """
    s = a.settings
    rows: list[Row] = []
    for statistic in _STATISTICS:
        if not (_has(a.full, statistic) and _has(b.full, statistic)):
            continue
        x, y = _of(a, a.full, statistic), _of(b, b.full, statistic)
        ends = bins_of(x, y, bars=s.bars, log=statistic in _COUNTED)
        rows += _distances_of(a, b, statistic, ends, s)
    return rows


def _distances_of(
    a: ComparedGraph,
    b: ComparedGraph,
    statistic: str,
    ends: NDArray[np.float64],
    s: ComparisonSettings,
) -> list[Row]:
    """Compute the distances of one statistic, over all tokens and over halves of the documents."""

    def between(x: Floats | None, y: Floats | None) -> list[float]:
        found = None if x is None or y is None else distances(x, y, ends=ends)
        return [] if found is None else [getattr(found, name) for name in MEASURES]

    def of(subject: ComparedGraph, graph: CoactivationGraph) -> Floats | None:
        return _of(subject, graph, statistic) if _has(graph, statistic) else None

    x, y = _of(a, a.full, statistic), _of(b, b.full, statistic)
    observed = between(x, y)
    limits = bootstrap(x, y, ends=ends, draws=s.draws, seed=s.seed)
    nulls = [between(x, of(b, g)) for g in b.nulls] + [between(of(a, g), y) for g in a.nulls]
    pairs = list(zip(a.halves, b.halves, strict=False))
    apart = [between(of(a, g), of(b, h)) for (g, _), (_, h) in pairs]
    own = [between(of(x, g), of(x, h)) for x in (a, b) for g, h in x.halves if pairs]
    half_nulls = [
        between(of(one, g), of(two, h))
        for one, two in ((a, b), (b, a))
        for (g, _), h in zip(one.halves, two.half_nulls, strict=False)
    ]
    rows = []
    for i, name in enumerate(MEASURES):
        row = Row(
            "distance",
            f"{statistic}: {_NAMES[name]}",
            of="features",
            n=min(len(x), len(y)),
            unit=_unit(statistic, name),
            null="bipartite",
            note=_distance_note(statistic, name, bins=len(ends) + 1, empty=not observed),
        )
        low, high = (getattr(one, name) for one in limits) if limits else (None, None)
        standard = None if low is None else STANDARD_ERROR
        null = range_of("null", _column(nulls, i), share=1)
        rows.append(
            replace(row, value=_at(observed, i), low=low, high=high, limits=standard, **null)
        )
        if pairs and observed:
            columns = (_column(each, i) for each in (apart, own, half_nulls))
            rows.append(_over_halves(row, *columns))
    return rows


def _over_halves(row: Row, apart: Floats, own: Floats, nulls: Floats) -> Row:
    """Return the row of a distance over halves of the documents.

    Parameters
    ----------
    row
        The row over all tokens, without its numbers.
    apart, own, nulls
        Distances between halves of the two SAEs, between halves of one SAE, and from null graphs.
    """
    value = range_of("value", apart, share=1)
    return replace(
        row,
        text="halves",
        value=value["value_mean"],
        low=value["value_low"],
        high=value["value_high"],
        limits=RANGE,
        halvings=len(apart),
        **range_of("itself", own, share=1),
        **range_of("null", nulls, share=1),
    )


def _distance_note(statistic: str, measure: str, *, bins: int, empty: bool) -> str | None:
    if empty:
        return "no live feature on one side"
    notes = [f"{bins} bins"] if measure.startswith("js") else []
    if statistic == "strength":
        notes.append("drawn graphs have no weights, so no null")
    return "; ".join(notes) or None


def _has(graph: CoactivationGraph, statistic: str) -> bool:
    return statistic != "strength" or graph.weight is not None


def _of(subject: ComparedGraph, graph: CoactivationGraph, statistic: str) -> Floats:
    """Return a statistic of the live features; the mean degree is over live features too."""
    name = _DEGREE if statistic == _OVER_MEAN else statistic
    values: Floats = getattr(graph, name)[subject.live].astype(np.float64)
    if statistic == _OVER_MEAN and values.any():
        values = values / values.mean()
    return values


def _unit(statistic: str, measure: str) -> str:
    if measure == "wasserstein":
        return {"degree": "features", "core": "edges"}.get(statistic, "")
    return "nats" if measure == "js_divergence" else ""


def _at(values: Sequence[float], i: int) -> float | None:
    return values[i] if values else None


def _column(rows: Sequence[Sequence[float]], i: int) -> NDArray[np.float64]:
    return np.array([row[i] for row in rows if row], dtype=np.float64)


def coverage_rows(a: ComparedGraph, b: ComparedGraph, partners: Partners) -> list[Row]:
    """Return the shares of matched features and of edges with both ends matched."""
    rows = []
    for side, subject, features in (("A", a, partners.a), ("B", b, partners.b)):
        live = int(subject.live.sum())
        rows.append(
            Row(
                "coverage",
                f"share of {side}'s live features matched",
                of="features",
                n=live,
                value=len(partners) / live if live else None,
            )
        )
        rows.append(
            Row(
                "coverage",
                f"share of {side}'s edges with both ends matched",
                of="edges",
                n=len(subject.full.pairs),
                value=edges.covered(subject.full, features),
            )
        )
    return rows


def conserved_rows(
    a: ComparedGraph,
    b: ComparedGraph,
    partners: Partners,
    *,
    stratum: Labels,
    progress: Progress = SILENT,
) -> list[Row]:
    """Measure the edges conserved under the matches, in total and by r.

    One set of rows is over all tokens. In the other, A's graph is from one half of the documents
    and B's from the other half, and the control is the same between the halves of one SAE.

    Parameters
    ----------
    a, b
        The SAEs.
    partners
        Their matches.
    stratum
        (matches,). The strata within which matches are permuted.
    progress
        Progress reporter.
    """
    s = a.settings
    rows = _conserved([edges.panel(a.full, b.full, partners)], partners, stratum, s, progress)
    both = list(zip(a.halves, b.halves, strict=False))
    if not both:
        return rows
    halves = _conserved(
        [edges.panel(x, y, partners) for (x, _), (_, y) in both], partners, stratum, s, progress
    )
    same = edges.measure([edges.panel(x, y, partners) for (x, _), (y, _) in both], r_bins=s.r_bins)
    own = []
    for subject, side in ((a, partners.a), (b, partners.b)):
        itself = Partners(side, side, partners.r)
        panels = [edges.panel(x, y, itself) for x, y in subject.halves]
        drawn = edges.intervals(panels, r_bins=s.r_bins, draws=s.draws, seed=s.seed)
        own.append((edges.measure(panels, r_bins=s.r_bins).flat, drawn))
    # The mean gives both SAEs the same weight.
    itself, ranges = (np.mean([x[i] for x in own], axis=0) for i in (0, 1))
    for i, row in enumerate(halves):
        spread = range_of("itself", ranges[:, i])
        spread["itself_mean"] = _number(itself[i])
        rows.append(
            replace(
                row, text="halves", halvings=len(both), same_text=_number(same.flat[i]), **spread
            )
        )
    return rows


def _conserved(
    panels: Sequence[edges.Panel],
    partners: Partners,
    stratum: NDArray[np.int64],
    s: ComparisonSettings,
    progress: Progress,
) -> list[Row]:
    """Return a row for each measured number, in the order of ``Measured.flat``."""
    how: dict[str, Any] = {"r_bins": s.r_bins, "draws": s.draws, "seed": s.seed}
    seen = edges.measure(panels, r_bins=s.r_bins).flat
    limits = edges.intervals(panels, **how)
    null = edges.permute(panels, stratum, progress=progress, **how)
    rewired = edges.rewire(panels, partners.r, progress=progress, **how)
    step = 1 / s.r_bins
    bins = [f"r {i * step:.2g} to {(i + 1) * step:.2g}" for i in range(s.r_bins)]
    names = [("conserved", name) for name in _SHARES.values()] + [
        ("conserved by r", f"{_SHARES[name]}, {one}")
        for name in ("share_ab", "share_ba")
        for one in bins
    ]
    sizes = _sizes(panels, s.r_bins)
    rows = []
    for i, (kind, name) in enumerate(names):
        ends = range_of("value", limits[:, i])
        rows.append(
            Row(
                kind,
                name,
                of="edges",
                n=sizes[i],
                null="matches permuted in strata",
                value=_number(seen[i]),
                low=ends["value_low"],
                high=ends["value_high"],
                limits=None if ends["value_low"] is None else INTERVAL,
                p=permutation_p(seen[i], null[:, i]) if movable(stratum) else None,
                rewired_p=permutation_p(seen[i], rewired[:, i]),
                note=None if np.isfinite(seen[i]) else _why(kind, name, s),
                **range_of("null", null[:, i]),
                **range_of("rewired", rewired[:, i]),
            )
        )
    return rows


def _why(kind: str, name: str, s: ComparisonSettings) -> str:
    if name == _SHARES["weights"]:
        return (
            "edges have no weights"
            if s.weight == "none"
            else "too few shared edges, or all weigh the same"
        )
    return "no such edge has both ends matched"


def _sizes(panels: Sequence[edges.Panel], r_bins: int) -> list[int]:
    """Return the number of edges behind each measured number, as a mean over pairs of graphs."""
    part, total = np.mean([edges.counts(x, r_bins=r_bins) for x in panels], axis=0)
    return [round(n) for n in [*total[:3], part[0], *total[3:]]]


def community_rows(
    a: ComparedGraph, b: ComparedGraph, partners: Partners, *, stratum: Labels
) -> list[Row]:
    """Measure the overlap of communities under the matches; see ``conserved_rows``."""
    x, y = _runs(a.communities, partners.a), _runs(b.communities, partners.b)
    complete = _community_row([(x, y)], stratum, a.settings)
    low, high = jackknife(x, y, seed=a.settings.seed) or (None, None)
    found = [replace(complete, low=low, high=high, limits=None if low is None else INTERVAL)]
    again = [n for n in (own_overlap(x), own_overlap(y)) if n is not None]
    if again:
        found.append(
            Row(
                "communities",
                "adjusted mutual information of Leiden runs on one graph",
                of="features",
                n=complete.n,
                value=float(np.mean(again)),
                low=min(again),
                high=max(again),
                limits="range of both SAEs",
            )
        )
    both = list(zip(a.half_communities, b.half_communities, strict=False))
    return found + ([_community_halves(a, b, both, partners, stratum)] if both else [])


def _runs(graph: Sequence[Labels], features: NDArray[np.int64]) -> list[Labels]:
    return [labels[features] for labels in graph]


def _community_row(
    pairs: Sequence[tuple[Sequence[Labels], Sequence[Labels]]],
    stratum: Labels,
    s: ComparisonSettings,
) -> Row:
    """Return the mean overlap over pairs of graphs, with its null distribution."""
    n = [int(np.sum((x[0] >= 0) & (y[0] >= 0))) for x, y in pairs]
    values = _present([overlap(x, y) for x, y in pairs])
    row = Row(
        "communities",
        "adjusted mutual information",
        of="features",
        n=round(float(np.mean(n))) if n else 0,
        null="matches permuted in strata",
    )
    if not n or len(values) < len(pairs):
        return replace(row, note="no community structure on both sides to compare")
    value = float(values.mean())
    null = overlap_null(pairs, stratum, draws=s.draws, seed=s.seed)
    p = permutation_p(value, null) if movable(stratum) else None
    return replace(row, value=value, p=p, **range_of("null", null))


def _community_halves(
    a: ComparedGraph,
    b: ComparedGraph,
    both: Sequence[tuple[Any, Any]],
    partners: Partners,
    stratum: Labels,
) -> Row:
    """Return the row over halves; halvings without an overlap are excluded from value and null."""
    f, g = partners.a, partners.b
    pairs = [(_runs(one, f), _runs(two, g)) for (one, _), (_, two) in both]
    values = [overlap(x, y) for x, y in pairs]
    known = [pair for pair, value in zip(pairs, values, strict=True) if value is not None]
    row = _community_row(known, stratum, a.settings)
    same = _present([overlap(_runs(x, f), _runs(y, g)) for (x, _), (y, _) in both])
    own = _present(
        [
            overlap(_runs(x, of), _runs(y, of))
            for subject, of in ((a, f), (b, g))
            for x, y in subject.half_communities
        ]
    )
    ends = range_of("value", _present(values), share=1)
    note = row.note
    if 0 < len(known) < len(both):
        note = f"{len(both) - len(known)} of {len(both)} halvings have no community structure on both sides"
    return replace(
        row,
        text="halves",
        low=ends["value_low"],
        high=ends["value_high"],
        limits=RANGE if known else None,
        halvings=len(known),
        note=note,
        same_text=float(same.mean()) if len(same) else None,
        **range_of("itself", own, share=1),
    )


def _present(values: Sequence[float | None]) -> Floats:
    return np.array([v for v in values if v is not None], dtype=np.float64)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
