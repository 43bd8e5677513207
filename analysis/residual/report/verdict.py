"""Verdicts of a residual study: three comparisons of arms, and a headline that reports two of them.

The residual of a least-squares fit is uncorrelated with its input by construction. That residual
features are harder to predict than baseline features therefore proves nothing. Two controls
test for more. The components control removes random principal components of equal variance,
and so measures the effect of removing any such share. The token-means control removes the mean
of each token id, and so measures the effect of removing the token. The headline reports these
two comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from analysis.residual.report.arm_difference import Difference, sign_flip, spread
from atlas.errors import BadInput

__all__ = [
    "AGAINST",
    "LEAST_DOCUMENTS",
    "MARGIN",
    "Kind",
    "Size",
    "Verdict",
    "detectable_size",
    "headline",
    "judge",
]

AGAINST: dict[str, str] = {
    "baseline": "the baseline",
    "components": "the components control",
    "token-means": "the token-means control",
}
"""The arms that residual features are compared with, in order, and their names in sentences."""

MARGIN = 0.01
"""Smallest difference that matters; the original study reported a difference of 0.0133."""

_LEVEL = 0.05
_LEAST_SEEDS = 6  # 2 / 2^6 = .031 is the first floor below .05
# From this number of seeds on, the sign-flip test has nearly the power of the t interval. Where the
# interval has power .8, both tests together have .57 at 6 seeds, .74 at 7, .76 at 9, .78 at 10 and
# .79 at 12 (1,500 runs of normal differences each). With fewer seeds, nearly all need one sign.
_ENOUGH_SEEDS = 10
_MOST = 10_000  # limit of the search for a size: seeds, draws, or factor of documents
_POWER = 0.8
LEAST_DOCUMENTS = 20
"""Smallest number of validation documents for a verdict; intervals over fewer are too narrow."""

Kind = Literal["harder", "not harder", "cannot tell"]


@dataclass(frozen=True)
class Size:
    """A sample size that detects a difference as large as the margin with 80% power.

    Parameters
    ----------
    seeds
        Training seeds of each arm; None if one seed gives no estimate of their variance.
    draws
        Draws of random components that all seeds share; None if their variance is unknown.
    documents
        Factor by which the validation documents must grow: 1 if there are enough, None if there
        is only one seed.
    """

    seeds: int | None
    draws: int | None
    documents: float | None


@dataclass(frozen=True)
class Verdict:
    """The verdict of one comparison.

    Parameters
    ----------
    kind
        ``"harder"``: the interval is below 0 and the sign-flip p is below .05. ``"not harder"``:
        the interval is above minus the margin, and the sign-flip test rejects a difference of
        minus the margin. Otherwise ``"cannot tell"``.
    control
        The arm that residual features are compared with; empty if there is none.
    sentence
        The verdict in words.
    size
        Sample size that detects a difference as large as the margin; None if unknown.
    clause
        The start of the headline's sentence on this comparison, up to "than".
    """

    kind: Kind
    control: str
    sentence: str
    size: Size | None = None
    clause: str = "this study cannot tell whether residual features are harder to predict"


def headline(components: Verdict, means: Verdict, *, source: str) -> str:
    """Return the headline: the source of the probes, and a sentence for each of two verdicts.

    Parameters
    ----------
    components
        The verdict of the comparison with the components control.
    means
        The verdict of the comparison with the token-means control.
    source
        Name of the probed site in sentences.
    """
    return (
        f"Probes predict features from {source}. {_capitalized(components.clause)} than features of the "
        "components control (random principal components of equal variance removed). "
        f"{_capitalized(means.clause)} than features of the token-means control (the mean of each token id "
        "removed)."
    )


def _capitalized(clause: str) -> str:
    return clause[:1].upper() + clause[1:]


def judge(
    found: Difference | None,
    *,
    margin: float = MARGIN,
    against: str = "",
    why: str = "no control was trained and probed",
    unfit: str = "",
) -> Verdict:
    """Return the verdict of one comparison.

    Parameters
    ----------
    found
        Residual minus control; None if no control was trained and probed.
    margin
        Smallest difference that matters, in balanced accuracy.
    against
        The control, if there is no difference.
    why
        What is missing, if there is no difference.
    unfit
        Why the trained arm is not a valid control; the verdict is then ``"cannot tell"``.

    Raises
    ------
    BadInput
        If the margin is not above 0.
    """
    if not 0 < margin < 1:
        raise BadInput(f"margin={margin} was input; expected a number above 0 and below 1.")
    if found is None or found.mean is None:
        if found is not None:
            why = (
                f"residual and {found.other} have no features in a common frequency stratum that pass the filter"
                if found.seeds_left_out
                else f"residual and {found.other} have no common seed among their trained and probed SAEs"
            )
        name = against if found is None else found.other
        return Verdict("cannot tell", name, f"Cannot tell: {why}.")
    scored = f"the mean balanced accuracy of residual features is {_direction(found.mean)} ({_evidence(found)}"
    if reason := unfit or _documents_missing(found):
        return Verdict("cannot tell", found.other, f"Cannot tell: {reason}. Here {scored}).")
    size = detectable_size(found, margin=margin)
    than = AGAINST.get(found.other, f"the control {found.other!r}")
    clause = "this sample is too small to tell whether residual features are harder to predict"
    kind: Kind = "cannot tell"
    if found.documents is not None and found.documents < LEAST_DOCUMENTS:
        sentence = (
            f"Cannot tell at this sample size: the probes were validated on {found.documents} documents, and "
            f"intervals over fewer than {LEAST_DOCUMENTS} documents are too narrow. Here {scored})."
        )
    elif _below(found, 0.0):
        kind = "harder"
        slightly = (
            f"by less than {margin:g}" if found.low is not None and found.low > -margin else ""
        )
        clause = f"residual features are harder to predict{f' ({slightly})' * bool(slightly)}"
        sentence = f"Harder than {than}{f', {slightly}' * bool(slightly)}: {scored})."
    elif (shifted := _not_lower(found, margin)) is not None:
        kind = "not harder"
        clause = f"residual features are not harder to predict (by {margin:g} or more)"
        sentence = (
            f"Not harder than {than} by {margin:g} or more: {scored}). The sign-flip test rejects a "
            f"difference of -{margin:g} (p = {shifted:.3g})."
        )
    else:
        sentence = f"Cannot tell at this sample size whether residual features are harder than {than}: {scored})."
    sentence = f"{sentence} {_power_sentence(found, size, margin, kind=kind)}"
    return Verdict(kind, found.other, sentence, size, clause)


def _documents_missing(found: Difference) -> str:
    """Return why the interval does not cover a known number of documents; empty if it does."""
    if found.documents is None and found.document_variance is not None:
        return (
            "the number of validation documents is unknown, because the probes were computed by an earlier "
            "version"
        )
    if "documents" not in found.resampled:
        return "an arm has no bootstrap draws of documents, so the interval does not cover the variance over documents"
    return ""


def detectable_size(found: Difference, *, margin: float = MARGIN) -> Size:
    """Return the sample size that detects a difference as large as the margin with 80% power.

    The search uses the observed variances among seeds, documents and draws, with the degrees of
    freedom of the interval. It starts from the present size, with at least six seeds and 20
    documents. Each step enlarges the sample of the largest variance by a twentieth (at least one
    seed or draw), until the power is reached. Below ten seeds the sign-flip test has less power
    than the interval. Ten seeds are therefore returned, unless fewer are likely to share one sign.

    Parameters
    ----------
    found
        A difference.
    margin
        The difference to detect.

    Returns
    -------
    The present size if it is sufficient.
    """
    if found.seed_variance is None:
        return Size(None, None, None)
    of_draw = (found.draw_variance or 0.0) * found.draws
    seeds, draws = max(found.seeds, _LEAST_SEEDS), max(found.draws, 1)
    factor = 1.0 if not found.documents else max(1.0, LEAST_DOCUMENTS / found.documents)
    while max(seeds, draws, factor) < _MOST:
        many = np.inf if found.documents is None else factor * max(2, found.documents) - 1
        parts = [
            (found.seed_variance / seeds, seeds - 1),
            (of_draw / draws, draws - 1),
            ((found.document_variance or 0.0) / factor, many),
        ]
        error, degrees = spread(parts)
        if error * float(student.ppf(0.975, degrees) + student.ppf(_POWER, degrees)) <= margin:
            break
        largest = int(np.argmax([variance for variance, _ in parts]))
        if largest == 0:
            seeds += max(1, seeds // 20)
        elif largest == 1:
            draws += max(1, draws // 20)
        else:
            factor *= 1.05
    if not _one_sign(found.seed_variance, seeds, margin):
        seeds = max(seeds, _ENOUGH_SEEDS)
    return Size(seeds, draws if found.draw_variance is not None else None, factor)


def _one_sign(variance: float, seeds: int, margin: float) -> bool:
    """Return whether all seeds have one sign in 80% of studies, if the mean is the margin."""
    sd = float(np.sqrt(variance))
    return sd == 0 or float(norm.cdf(margin / sd)) ** seeds >= _POWER


def _below(found: Difference, limit: float) -> bool:
    return (
        found.high is not None
        and found.seeds > 1
        and found.high < limit
        and found.p is not None
        and found.p < _LEVEL
    )


def _not_lower(found: Difference, margin: float) -> float | None:
    """Return p of the sign-flip test against minus the margin, if it and the interval reject that difference."""
    shifted = sign_flip(list(found.by_seed.values()), shift=margin)
    above = found.seeds > 1 and found.low is not None and found.low > -margin
    return shifted if above and shifted < _LEVEL else None


def _evidence(found: Difference) -> str:
    """Return interval, seeds and p of a difference in words."""
    seeds = f"{found.seeds} seed{'' if found.seeds == 1 else 's'}"
    if found.low is None or found.high is None:
        return f"{seeds}, no interval"
    over = " and ".join(found.resampled)
    p = "" if found.p is None else f", sign-flip p = {found.p:.3g}"
    return f"95% interval {found.low:+.4f} to {found.high:+.4f} over {over}, {seeds}{p}"


def _direction(mean: float) -> str:
    return f"{'lower' if mean < 0 else 'higher'} by {abs(mean):.4f}" if mean else "the same"


def _power_sentence(found: Difference, size: Size, margin: float, *, kind: Kind) -> str:
    """Return a sentence on the sample size that has 80% power."""
    if size.seeds is None:
        return (
            "One seed gives no estimate of the variance among training runs; the sign-flip test needs at least "
            "six seeds to reach p < .05."
        )
    if (size.seeds, size.draws or found.draws, size.documents) == (found.seeds, found.draws, 1.0):
        neither = " The observed difference supports neither verdict." * (kind == "cannot tell")
        return (
            f"Given the observed variance, this sample size detects a difference of {margin:g} with 80% power."
            f"{neither}"
        )
    parts = [
        f"{size.seeds} seeds" if size.seeds > found.seeds else f"the present {size.seeds} seeds"
    ]
    if size.draws is not None and size.draws > found.draws:
        parts.append(f"{size.draws} draws of the control")
    if size.documents is not None and size.documents > 1:
        parts.append(f"{size.documents:.1f} times the validation documents")
    more = " or more" if max(size.seeds, size.draws or 0, size.documents or 0) >= _MOST else ""
    few = ""
    if found.seeds < _LEAST_SEEDS:
        apart = found.high is not None and found.low is not None and found.low * found.high > 0
        few = (
            f"{'The interval excludes 0, but the' if apart else 'The'} sign-flip test cannot reach p < .05 with "
            f"fewer than {_LEAST_SEEDS} seeds. "
        )
    return (
        f"{few}Given the observed variance, detecting a difference of {margin:g} with 80% power requires about "
        f"{_joined(parts)}{more}."
    )


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
