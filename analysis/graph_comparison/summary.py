"""The conclusion of a comparison, computed from its rows."""

from collections.abc import Sequence

from analysis.graph_comparison.rows import RANGE, Row
from analysis.statistics.permutation import exceedance_p

__all__ = ["conclude"]

_LEVEL = 0.05
_FEWEST = 3  # fewest halvings for a comparison of ranges
_TOO_FEW = f"fewer than {_FEWEST} halvings, so they are not compared"


def conclude(a: str, b: str, rows: Sequence[Row], *, draws: int) -> str:
    """Summarize a comparison in sentences.

    The row over halves is preferred. It has the value between halves of one SAE as a control, and
    the two graphs do not share text.

    Parameters
    ----------
    a, b
        Names of the SAEs.
    rows
        The rows.
    draws
        Number of draws of each null; p = 0.05 needs at least 19.
    """
    sentences = [
        one
        for one in (
            _distance(_pick(rows, "distance", "degree: Kolmogorov-Smirnov"), "Degrees"),
            _distance(_pick(rows, "distance", "clustering: Kolmogorov-Smirnov"), "Clustering"),
            _edges(_pick(rows, "conserved", "share of A's edges"),
                   _pick(rows, "conserved", "share of B's edges"), draws),
            _communities(_pick(rows, "communities", "adjusted mutual information"), draws),
        )
        if one
    ]  # fmt: skip
    return f"{a} (A) and {b} (B): " + (
        " ".join(sentences) if sentences else "there is nothing to compare."
    )


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
