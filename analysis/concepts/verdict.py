"""Sentences that interpret a result of the study of concepts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["verdict_of"]

Row = Mapping[str, Any]


def verdict_of(
    sae: str, arms: Sequence[Row], *, skipped: Sequence[Row], probes: Sequence[Row]
) -> list[str]:
    """Return sentences for each concept, and for concepts that were skipped.

    Parameters
    ----------
    sae
        Name of the SAE.
    arms, skipped, probes
        Rows of these tables.
    """
    found: list[str] = []
    for concept in dict.fromkeys(row["concept"] for row in arms):
        of = {row["arm"]: row for row in arms if row["concept"] == concept}
        found += _units(f"{sae}, {concept}", of)
        found += _information(of)
        found += _localisation(of)
        found += _probes([row for row in probes if row["concept"] == concept])
    found += [f"{sae}, {row['concept']}: skipped, because {row['reason']}." for row in skipped]
    return found


def _units(title: str, of: Mapping[str, Row]) -> Iterator[str]:
    own, layer = of["features"], of["layer"]
    yield (
        f"{title}: {own['max_t_units']:,} of {own['live']:,} live features and {layer['max_t_units']:,} of "
        f"{layer['live']:,} dimensions of the layer separate the classes (family-wise p <= .05); "
        f"{own['units'] - own['live']:,} of {own['units']:,} features never vary on these words."
    )


def _information(of: Mapping[str, Row]) -> Iterator[str]:
    own, layer = of["features"], of["layer"]
    if own["auc"] is None or layer["auc"] is None:
        yield "No split had both classes in its test words, so no probe was scored."
        return
    chance = (
        f"; {own['permuted_auc']:.2f} with permuted labels"
        if own["permuted_auc"] is not None
        else ""
    )
    yield (
        f"Held-out AUROC: {own['auc']:.3f} from the features, {layer['auc']:.3f} from the layer{chance}. "
        f"Difference {_interval(own, 'difference')}."
    )
    for probes, name in (("ridge", "converged"), ("k-sparse", "sparse_converged")):
        known = [row[name] for row in (own, layer) if row[name] is not None]
        least = min(known, default=1.0)
        if least < 1:
            yield f"{1 - least:.1%} of the fits of {probes} probes did not converge."


def _localisation(of: Mapping[str, Row]) -> Iterator[str]:
    own, random = of["features"], of.get("random")
    if own["retained"] is None:
        yield "The layer does not separate the classes, so no share of its information is defined."
        return
    k90 = (
        f"all {own['live']:,} live features together do not reach 90%"
        if own["k90"] is None
        else f"{own['k90']:,} of {own['live']:,} live features reach 90%"
    )
    effective = (
        "undefined, because no feature alone matters"
        if own["effective"] is None
        else f"{own['effective']:.1f} features"
    )
    yield (
        f"Retained information R of all features {_interval(own, 'retained')}; {k90}; effective "
        f"number: {effective}; area under R over log k {_interval(own, 'area')}."
    )
    if random is not None and random["area"] is not None:
        yield (
            f"Random directions that are active as often: R {_interval(random, 'retained')}, area "
            f"{_interval(random, 'area')}. {_more_localised(own, random)}"
        )


def _more_localised(own: Row, random: Row) -> str:
    """Return whether fewer features than random directions retain the information.

    A larger area means fewer features. Intervals that do not overlap are a stricter rule than an
    interval of the difference that excludes 0.
    """
    known = [own["area_low"], own["area_high"], random["area_low"], random["area_high"]]
    if None not in known:
        own_low, own_high, random_low, random_high = known
        if own_low > random_high:
            return "So the features are more localised than random directions."
        if own_high < random_low:
            return "So the features are less localised than random directions."
    return "So the features are not shown to be more localised than random directions."


def _probes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["difference"] is not None:
            state = "" if row["converged"] in (None, 1.0) else f", {row['converged']:.0%} converged"
            yield (
                f"{row['probe']} probe of the {row['arm']}: AUROC {row['auc']:.3f}, {_interval(row, 'difference')} "
                f"compared with ridge on the same splits{state}."
            )


def _interval(row: Row, name: str) -> str:
    """Return a value with its interval."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value is None:
        return "undefined"
    return f"{value:.2f}" + (f" ({low:.2f} to {high:.2f})" if low is not None else "")
