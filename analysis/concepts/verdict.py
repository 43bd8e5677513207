"""Sentences that interpret a result of the study of concepts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.concepts.worth.localisation import SHARE

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
        found += _conclusion(f"{sae}, {concept}", of)
        found += _above_features(of)
        found += _information(of)
        found += _localisation(of)
        found += _units(of)
        found += _convergence(of)
        found += _probes([row for row in probes if row["concept"] == concept])
    found += [f"{sae}, {row['concept']}: skipped, because {row['reason']}." for row in skipped]
    return found


def _conclusion(title: str, of: Mapping[str, Row]) -> Iterator[str]:
    own, layer, random = of["features"], of["layer"], of.get("random")
    if own["auc"] is None or layer["auc"] is None:
        yield f"{title}: no split had both classes in its test words, so no probe was scored."
        return
    if own["retained"] is None:
        yield (
            f"{title}: the layer does not separate the classes, so there is no information to retain "
            "or to localise."
        )
        return
    yield f"{title}: {_loss(own)}{'' if random is None else f', and {_more_localised(own, random)}'}."


def _loss(own: Row) -> str:
    """Return whether the features predict the classes worse than the layer, with their interval.

    If fewer features reach 90% of the layer, the probe of all has too few words for them. Then it is
    no evidence of a loss.
    """
    low, high = own["difference_low"], own["difference_high"]
    if high is not None and high < 0:
        if own["k90"] is not None:
            return (
                f"all {own['varying']:,} features together predict worse than the layer, but {own['k90']:,} of them "
                "reach 90% of it, so a loss of information is not shown"
            )
        return "the features lose information that the layer has: no number of them reaches 90%"
    if low is not None and low > 0:
        return "probes of the features are better than those of the layer"
    return "the features are not shown to lose information"


def _more_localised(own: Row, random: Row) -> str:
    """Return whether fewer features than random directions retain the information.

    A larger area means fewer features. Intervals that do not overlap are a stricter rule than an
    interval of the difference that excludes 0.
    """
    known = [own["area_low"], own["area_high"], random["area_low"], random["area_high"]]
    if None not in known:
        own_low, own_high, random_low, random_high = known
        if own_low > random_high:
            return "they are more localised than random directions"
        if own_high < random_low:
            return "they are less localised than random directions"
    return "they are not shown to be more localised than random directions"


def _information(of: Mapping[str, Row]) -> Iterator[str]:
    own, layer = of["features"], of["layer"]
    if own["auc"] is not None and layer["auc"] is not None:
        permuted = own["permuted_auc"]
        null = "" if permuted is None else f", {permuted:.2f} with permuted labels"
        yield (
            f"Held-out AUROC: {own['auc']:.3f} from the features, {layer['auc']:.3f} from the layer{null}; "
            f"difference {_interval(own, 'difference')}."
        )


#: Arms that are no SAE's features, and what they are in a sentence.
_WITHOUT_SAE = {"random": "random directions", "neurons": "neurons", "embedding": "the embedding"}


def _above_features(of: Mapping[str, Row]) -> Iterator[str]:
    """State which arms that need no SAE predict the classes better than the features."""
    own = of["features"]
    higher = [
        f"{what} ({of[arm]['auc']:.2f})"
        for arm, what in _WITHOUT_SAE.items()
        if own["auc"] is not None and arm in of and (of[arm]["auc"] or 0.0) > own["auc"]
    ]
    if not higher:
        return
    several = " and ".join([", ".join(higher[:-1]), higher[-1]] if higher[1:] else higher)
    sure = [
        what
        for arm, what in _WITHOUT_SAE.items()
        if arm in of and _above(of[arm].get("auc_low"), own.get("auc_high"))
    ]
    verb = "have" if higher[1:] or not several.startswith("the") else "has"
    apart = f"; without overlap of 95% intervals: {', '.join(sure)}" if sure else ""
    yield f"{several[0].upper()}{several[1:]} {verb} a higher held-out AUROC than the features ({own['auc']:.2f}){apart}."


def _above(low: float | None, high: float | None) -> bool:
    """Return whether a lower limit is above an upper limit; False if one is missing."""
    return low is not None and high is not None and low > high


def _localisation(of: Mapping[str, Row]) -> Iterator[str]:
    own, random = of["features"], of.get("random")
    if own["retained"] is None:
        return
    every = f"{own['varying']:,} features that vary on these words"
    if own["k90"] is None:
        k90 = f"all {every} together retain less than 90%"
    elif own["retained"] < SHARE:
        k90 = f"{own['k90']:,} features reach 90%, but all {every} together do not: the curve is not monotone"
    elif own["k90"] == own["varying"]:
        k90 = f"90% needs all {every}"
    else:
        k90 = f"{own['k90']:,} of {every} retain 90%"
    effective = (
        "undefined, because removing one feature alone never raises the loss of the probe of all (95% intervals)"
        if own["effective"] is None
        else f"{own['effective']:.1f} features"
    )
    yield (
        f"Retained information R of all features: {_interval(own, 'retained')}; {k90}. Effective number: {effective}."
    )
    control = (
        ""
        if random is None or random["area"] is None
        else f"; of random directions that are active as often: {_interval(random, 'area')}"
    )
    yield f"Area under R over log k: {_interval(own, 'area')}{control}."


def _units(of: Mapping[str, Row]) -> Iterator[str]:
    own, layer = of["features"], of["layer"]
    yield (
        f"Units that separate the classes (family-wise p ≤ 0.05): {own['max_t_units']:,} of {own['varying']:,} "
        f"features, {layer['max_t_units']:,} of {layer['varying']:,} dimensions of the layer. "
        f"{own['units'] - own['varying']:,} of {own['units']:,} features never vary on these words."
    )


def _convergence(of: Mapping[str, Row]) -> Iterator[str]:
    for probes, name in (("ridge", "converged"), ("k-sparse", "sparse_converged")):
        known = [of[arm][name] for arm in ("features", "layer") if of[arm][name] is not None]
        least = min(known, default=1.0)
        if least < 1:
            yield f"{1 - least:.1%} of the fits of {probes} probes did not converge."


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
