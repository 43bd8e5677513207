"""The verdict on a residual study: three comparisons, and a headline of two clauses that says no more.

That residual features are harder to predict than the baseline's proves nothing, since what
is left of a least-squares fit is uncorrelated with what it was fitted on by construction. They
are held against features of a layer without random components of as much variance, which say
what taking any such share away does, and against those of a layer without token means, which
say what taking the token itself away does. The headline rests on these two.
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
    "headline",
    "judge",
    "size_to_tell",
]

AGAINST: dict[str, str] = {
    "baseline": "the baseline",
    "components": "the components",
    "token-means": "with token means",
}
"""What residual features are held against, in order, and how a sentence goes on after "harder than"."""

MARGIN = 0.01
"""Smallest difference that is worth telling; the source's whole claim was one of 0.0133."""

_LEVEL = 0.05
_LEAST_SEEDS = 6  # 2 / 2^6 = .031 is the first floor below .05
# From so many on the sign-flip test has nearly the power of the t interval: where the latter tells
# four times in five, both together do in .57 of runs at 6 seeds, .74 at 7, .76 at 9, .78 at 10, .79
# at 12 (1,500 runs of normal differences each). Of fewer seeds, nearly all must have one sign.
_ENOUGH_SEEDS = 10
_MOST = 10_000  # seeds, draws, or times the documents that are looked at
_POWER = 0.8
LEAST_DOCUMENTS = 20
"""Fewest validation documents that a verdict may rest on: of fewer, intervals are too narrow."""

Kind = Literal["harder", "not harder", "cannot tell"]


@dataclass(frozen=True)
class Size:
    """A size at which a difference as large as the margin is told four times in five.

    Parameters
    ----------
    seeds
        Training seeds of each arm; None where one seed says nothing of others' variance.
    draws
        Draws (of random components) that all seeds have; None where their variance is not known.
    documents
        By what factor validation documents would have to grow; 1 where there are enough, None
        where one seed cannot tell.
    """

    seeds: int | None
    draws: int | None
    documents: float | None


@dataclass(frozen=True)
class Verdict:
    """What the numbers force.

    Parameters
    ----------
    kind
        ``"harder"``: the interval is below 0 and the sign-flip p below .05. ``"not harder"``: the
        interval is above minus the margin, and so says the sign-flip test. Else ``"cannot tell"``.
    control
        The arm it was held against; empty if there was none.
    sentence
        The verdict for people.
    size
        At which a difference as large as the margin is told; None where that is not known.
    clause
        The verdict as the headline has it, up to "than".
    """

    kind: Kind
    control: str
    sentence: str
    size: Size | None = None
    clause: str = "cannot be told to be harder or not"


def headline(components: Verdict, means: Verdict, *, source: str) -> str:
    """Return one sentence of two clauses, each no more than its verdict.

    Parameters
    ----------
    components
        The verdict on residual features against those without random components.
    means
        The verdict against those without token means.
    source
        What the place that was probed from is called.
    """
    return (
        f"To predict from {source}, what an SAE finds in what is left {components.clause} than where as much "
        f"variance was taken away at random (components), and {means.clause} than where the token means were "
        "taken away (token-means)."
    )


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
        Residual less control; None where no control was trained and probed.
    margin
        Smallest difference that matters, in balanced accuracy.
    against
        The control, where there is no difference.
    why
        What is lacking, where there is no difference.
    unfit
        Why what was trained is no control; there is no verdict then.

    Raises
    ------
    BadInput
        If the margin is not above 0.
    """
    if not 0 < margin < 1:
        raise BadInput(f"margin={margin} was asked for; it lies between 0 and 1, both excluded.")
    if found is None or found.mean is None:
        if found is not None:
            why = (
                f"no features of residual and {found.other} pass the filter with like positives"
                if found.seeds_left_out
                else f"no common seed: residual and {found.other} were not trained and probed with one of the same"
            )
        name = against if found is None else found.other
        return Verdict("cannot tell", name, f"Cannot tell: {why}.")
    scored = f"residual features score {_direction(found.mean)} ({_told(found)}"
    if lacking := unfit or _undrawn(found):
        return Verdict("cannot tell", found.other, f"Cannot tell: {lacking}. Here {scored}).")
    size = size_to_tell(found, margin=margin)
    than = AGAINST.get(found.other, f"the control {found.other!r}")
    clause = "cannot be told at this size to be harder or not"
    kind: Kind = "cannot tell"
    if found.documents is not None and found.documents < LEAST_DOCUMENTS:
        said = (
            f"Cannot tell at this size: the probes were validated on {found.documents} documents, and intervals "
            f"over fewer than {LEAST_DOCUMENTS} are too narrow. Here {scored})."
        )
    elif _below(found, 0.0):
        kind = "harder"
        slightly = (
            f", by less than {margin:g}" if found.low is not None and found.low > -margin else ""
        )
        clause = f"is harder{slightly}{',' * bool(slightly)}"
        said = f"Harder than {than}{slightly}: {scored})."
    elif (shifted := _not_lower(found, margin)) is not None:
        kind, clause = "not harder", f"is not harder, by {margin:g} or more,"
        said = (
            f"Not harder than {than}: {scored}; that they are lower by {margin:g}: sign-flip p = {shifted:.3g}), "
            f"so they are not lower by {margin:g} or more."
        )
    else:
        said = f"Cannot tell at this size whether harder than {than}: {scored})."
    told = f"{said} {_size_told(found, size, margin, kind=kind)}"
    return Verdict(kind, found.other, told, size, clause)


def _undrawn(found: Difference) -> str:
    """Say why the interval speaks of no documents that are known; empty if it does."""
    if found.documents is None and found.document_variance is not None:
        return (
            "the probes do not say on how many documents they were validated, as they were made by an earlier "
            "version"
        )
    if "documents" not in found.resampled:
        return "documents were not drawn anew for the probes of both sides, so the interval says nothing of others"
    return ""


def size_to_tell(found: Difference, *, margin: float = MARGIN) -> Size:
    """Return the size at which a difference as large as the margin is told with 80% power.

    The variances among seeds, of documents and of draws are taken as observed, and their degrees
    of freedom as the interval has them. From the present size on, six seeds and 20 documents at
    least, whichever part of the variance is largest grows by a twentieth (a seed or a draw at
    least), until the limit of the interval and the share of runs beyond it fit into the margin. Of
    fewer than ten seeds all must be likely to have one sign, or ten are asked for: the sign-flip test
    tells less often than the interval there.

    Parameters
    ----------
    found
        A difference.
    margin
        The difference that is to be told: from 0, or from one of its size.

    Returns
    -------
    The present size where that is enough.
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
    """Say whether all seeds are of one sign four times in five, if the mean is the margin."""
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
    """Return the p of the sign-flip test against the margin, if that and the interval say "not lower by it"."""
    shifted = sign_flip(list(found.by_seed.values()), shift=margin)
    above = found.seeds > 1 and found.low is not None and found.low > -margin
    return shifted if above and shifted < _LEVEL else None


def _told(found: Difference) -> str:
    seeds = f"{found.seeds} seed{'' if found.seeds == 1 else 's'}"
    if found.low is None or found.high is None:
        return f"{seeds}, no interval"
    over = " and ".join(found.resampled)
    p = "" if found.p is None else f", sign-flip p = {found.p:.3g}"
    return f"95% interval {found.low:+.4f} to {found.high:+.4f} over {over}, {seeds}{p}"


def _direction(mean: float) -> str:
    return f"{'lower' if mean < 0 else 'higher'} by {abs(mean):.4f}" if mean else "the same"


def _size_told(found: Difference, size: Size, margin: float, *, kind: Kind) -> str:
    if size.seeds is None:
        return (
            "One seed says nothing of how training runs differ; six are the least for which the "
            "sign-flip test can reach p < .05."
        )
    if (size.seeds, size.draws or found.draws, size.documents) == (found.seeds, found.draws, 1.0):
        between = "; what was seen lies where neither can be said" * (kind == "cannot tell")
        return f"By the variance seen here, this size tells a difference of {margin:g} four times in five{between}."
    parts = [
        f"{size.seeds} seeds" if size.seeds > found.seeds else f"the {size.seeds} seeds there are"
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
            f"{'The interval leaves out 0, but fewer' if apart else 'Fewer'} than {_LEAST_SEEDS} seeds cannot "
            "reach p < .05 whatever they show. "
        )
    return (
        f"{few}To tell a difference of {margin:g} four times in five takes, by the variance seen here, about "
        f"{_joined(parts)}{more}."
    )


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
