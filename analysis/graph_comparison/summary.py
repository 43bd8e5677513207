"""What the numbers of a comparison say, in a sentence that they force."""

from collections.abc import Sequence

from analysis.graph_comparison.rows import RANGE, Row

__all__ = ["conclude"]

_LEVEL = 0.05
_FEWEST = 3  # halvings, whose range is said to be beyond another
_TOO_FEW = f"less than {_FEWEST} halvings, so more is not said"


def conclude(a: str, b: str, rows: Sequence[Row], *, draws: int) -> str:
    """Say what the rows of a comparison come to.

    Of each kind, the row over halves is read where there is one: it is the one beside what an
    SAE has with itself, and free of what the matches share with one text.

    Parameters
    ----------
    a, b
        Names of the SAEs.
    rows
        The rows.
    draws
        How many each null has: with less than 19 no p can be 0.05.
    """
    told = [
        said
        for said in (
            _distance(_pick(rows, "distance", "degree: Kolmogorov-Smirnov"), "Degrees"),
            _distance(_pick(rows, "distance", "clustering: Kolmogorov-Smirnov"), "Clustering"),
            _edges(_pick(rows, "conserved", "share of A's edges"),
                   _pick(rows, "conserved", "share of B's edges"), draws),
            _communities(_pick(rows, "communities", "adjusted mutual information"), draws),
        )
        if said
    ]  # fmt: skip
    return f"{a} (A) and {b} (B): " + (
        " ".join(told) if told else "there is nothing to compare, so nothing is said."
    )


def _pick(rows: Sequence[Row], kind: str, measure: str) -> Row | None:
    found = [row for row in rows if (row.kind, row.measure) == (kind, measure)]
    found.sort(key=lambda row: row.text != "halves")
    return next((row for row in found if row.value is not None), None)


def _distance(row: Row | None, name: str) -> str:
    if row is None or row.value is None or row.low is None or row.high is None:
        return ""
    told = f"{name} differ by KS {row.value:.3f}"
    if name == "Clustering":
        told = f"Clustering differs by KS {row.value:.3f}"
    of_self, of_null = row.itself_mean, row.null_mean
    if row.limits != RANGE or (row.halvings or 0) < _FEWEST:  # then only told, not compared
        told += "" if of_self is None else f" ({of_self:.3f} between halves of one SAE; {_TOO_FEW})"
        return told + ("" if of_null is None else f"; {of_null:.3f} from the bipartite null") + "."
    if of_self is not None and row.itself_high is not None:
        more = _clearly(row.low > row.itself_high, "more")
        told += f", {more} than halves of one SAE do ({of_self:.3f})"
    if of_null is not None and row.null_low is not None:
        less = _clearly(row.high < row.null_low, "less")
        told += f", {less} than from the bipartite null ({of_null:.3f})"
    return told + "."


def _edges(one: Row | None, two: Row | None, draws: int) -> str:
    if one is None or two is None or one.value is None or two.value is None:
        return "No edge of A or of B has both ends matched, so none can be conserved."
    told = f"Of edges with both ends matched, {one.value:.1%} of A's and {two.value:.1%} of B's are conserved"
    if one.text == "halves":
        told += " over other documents"
    ps = [one.p, one.rewired_p, two.p, two.rewired_p]
    told += f": {_beyond(ps, draws)}"
    if one.null_mean is not None and two.null_mean is not None:
        told += f" ({one.null_mean:.1%} and {two.null_mean:.1%} by permuted matches"
        if one.rewired_mean is not None and two.rewired_mean is not None:
            told += f", {one.rewired_mean:.1%} and {two.rewired_mean:.1%} by swapped edges"
        told += f"; p {_p(ps)})"
    return told + _both_short_of(one, two) + "."


def _communities(row: Row | None, draws: int) -> str:
    if row is None or row.value is None:
        return "Communities cannot be compared."
    told = f"Communities overlap by an AMI of {row.value:.2f}: {_beyond([row.p], draws)}"
    if row.null_mean is not None:
        told += f" ({row.null_mean:.2f}; p {_p([row.p])})"
    less = _is_less(row)
    if less is None:
        return told + "."
    if (row.halvings or 0) < _FEWEST:
        return told + f"; {row.itself_mean:.2f} between halves of one SAE ({_TOO_FEW})."
    return (
        told + f", and {_clearly(less, 'less')} than of halves of one SAE ({row.itself_mean:.2f})."
    )


def _clearly(is_so: bool, word: str) -> str:
    return word if is_so else f"not clearly {word}"


def _beyond(ps: Sequence[float | None], draws: int) -> str:
    """Say whether a number is beyond all its nulls; each must be able to tell."""
    if 1 / (1 + draws) > _LEVEL:
        return (
            f"whether that is more than chance cannot be said of {draws:,} draws, but of 19 or more"
        )
    known = [p for p in ps if p is not None]
    if len(known) < len(ps):
        return (
            "whether that is more than chance cannot be said, as permutations within strata leave "
            "most matches in place"
        )
    return f"{_clearly(max(known) <= _LEVEL, 'more')} than chance"


def _p(ps: Sequence[float | None]) -> str:
    return f"{max(p for p in ps if p is not None):.2g}" if any(p is not None for p in ps) else "–"


def _is_less(row: Row) -> bool | None:
    """Tell whether a number is below what an SAE has with itself; None if that is not known."""
    if row.itself_mean is None or row.itself_low is None or row.high is None:
        return None
    return row.high < row.itself_low


def _both_short_of(one: Row, two: Row) -> str:
    """Say where A's and B's edges stand beside those of halves of one SAE."""
    less = [_is_less(row) for row in (one, two)]
    if None in less:
        return ""
    own = f"{one.itself_mean:.1%} and {two.itself_mean:.1%}"
    told = f"than halves of one SAE have with each other ({own})"
    if less[0] == less[1]:
        return f", and {_clearly(bool(less[0]), 'less')} {told}"
    sides = [f"{_clearly(bool(x), 'less')} of {side}'s" for x, side in zip(less, "AB", strict=True)]
    return f", and {sides[0]} and {sides[1]} {told}"
