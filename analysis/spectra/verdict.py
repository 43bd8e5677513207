"""Sentences that interpret the spectra of an SAE, computed from its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["SIGNIFICANT", "verdict_of"]

SIGNIFICANT = 0.05
"""Largest q of a difference from a null that is reported as one."""

#: The nulls that are tested. That of equal covariance has the same spectrum by construction.
_NOUNS = {"isotropic": "isotropic directions", "permuted": "permuted columns"}


def verdict_of(
    sae: str, matrices: Mapping[str, Mapping[str, Any]], nulls: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the sentences about one SAE.

    Parameters
    ----------
    sae
        Its name.
    matrices
        By matrix, its row of the table ``matrices``.
    nulls
        Rows of the table ``nulls``.
    """
    own = matrices["decoder"]
    if own["missing"]:
        return [f"{sae} has {own['rows'] or 0:,} live decoder directions. {own['missing']}"]
    if own["participation_ratio"] is None:
        return [f"{sae}: its {own['rows']:,} live decoder directions are equal."]
    return list(_sentences(sae, matrices, nulls))


def _sentences(
    sae: str, matrices: Mapping[str, Mapping[str, Any]], nulls: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    own = matrices["decoder"]
    tests = {(t["null"], t["statistic"]): t for t in nulls if t["matrix"] == "decoder"}
    ranges = "; ".join(
        f"{_NOUNS[null]} {t['null_low']:.1f} to {t['null_high']:.1f}"
        for (null, statistic), t in tests.items()
        if null in _NOUNS and statistic == "participation_ratio" and t["null_low"] is not None
    )
    yield (
        f"{sae}: {own['rows']:,} live decoder directions in {own['columns']:,} dimensions "
        f"{_amount(tests, own['participation_ratio'])}: their participation ratio is {own['participation_ratio']:.1f} "
        f"(95% ranges: {ranges})."
    )
    distances = [tests[null, "distance"] for null in _NOUNS]
    differ = [t["null"] for t in distances if t["q"] is not None and t["q"] <= SIGNIFICANT]
    if differ:
        yield (
            f"The shape of the spectrum differs from {' and '.join(_NOUNS[null] for null in differ)} "
            f"(q ≤ {SIGNIFICANT:g})."
        )
    else:
        yield (
            "In the shape of the spectrum, no difference from isotropic directions or permuted columns was found "
            f"(q > {SIGNIFICANT:g})."
        )
    mean = tests["isotropic", "mean_share"]
    yield (
        f"The mean direction has {own['mean_share']:.1%} of the sum of squares (isotropic: "
        f"{mean['null_mean']:.1%})."
    )
    model = matrices["model"]
    if model["participation_ratio"] is not None:
        null = next(
            t
            for t in nulls
            if (t["matrix"], t["null"], t["statistic"])
            == ("model", "isotropic", "participation_ratio")
        )
        yield (
            f"The model's own matrix at the site ({model['source']}) has a participation ratio of "
            f"{model['participation_ratio']:.1f} from {model['rows']:,} directions (isotropic: "
            f"{null['null_low']:.1f} to {null['null_high']:.1f})."
        )


def _amount(tests: Mapping[tuple[str, str], Mapping[str, Any]], ratio: float) -> str:
    """Return whether a participation ratio is below, above or inside the isotropic range."""
    test = tests.get(("isotropic", "participation_ratio"))
    if test is None or test["null_low"] is None:
        return "have no comparison with isotropic directions"
    if ratio < test["null_low"]:
        return "use fewer of them than isotropic directions"
    if ratio > test["null_high"]:
        return "use more of them than isotropic directions"
    return "use as many of them as isotropic directions"
