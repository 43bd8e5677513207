"""The tokens that one feature promotes and suppresses, by its decoder row and measured."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.logits.agreement import agreement, top_tokens
from analysis.logits.settings import LogitSettings
from analysis.logits.subject import DirectLogits, Subject, open_subject
from analysis.steering.subject import feature_of
from atlas.disk.folder import Folder
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.provenance import with_provenance
from atlas.studies.results import Result
from atlas.studies.study import TaskContext
from ingest.sae.autoencoder import Autoencoder
from ingest.text.tokenization import token_texts

__all__ = ["measure_feature_logits"]

#: Promoted tokens that a verdict names.
_NAMED = 3

#: Other features whose direct logits are compared at most, so that a large vocabulary fits.
_CONTROLS = 256

_COLUMNS = pa.schema(
    [
        ("token", pa.string()),
        ("value", pa.float64()),
        ("rank", pa.int64()),
        ("ablated_change", pa.float64()),
    ]
)


def measure_feature_logits(
    atlas: str | Path,
    feature: str,
    *,
    settings: LogitSettings = LogitSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    model: Any = None,
    tokenizer: Any = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Result:
    """Find the tokens that one feature promotes and suppresses, and measure whether it does.

    Nothing is stored. ``measure_logits`` stores the tokens of all features of an SAE.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    feature
        The feature, ``sae/index``.
    settings
        Number of tokens of each table, and tokens on which the feature is ablated. With
        ``features=0`` nothing is ablated, and no codes are needed.
    opened, model, tokenizer, device, progress
        As for ``measure_logits``.

    Returns
    -------
        Tables ``promoted`` and ``suppressed`` have the tokens with the highest and the lowest
        direct logits. Table ``changed`` has the tokens whose log-probability the ablation changes
        most. Columns are ``token``, ``value`` (direct logit of one unit of activation), ``rank``
        (0 for the highest direct logit of the vocabulary), and ``ablated_change`` (mean change of
        the log-probability by the ablation, in nats).

    Raises
    ------
    BadInput
        If the feature has another form or is never active.
    UnknownName, Mismatch, Missing
        As ``measure_logits`` does.

    Examples
    --------
    >>> from analysis import LogitSettings, measure_feature_logits
    >>> settings = LogitSettings(positions=4)
    >>> found = measure_feature_logits("demo.atlas", "tiny-a-l1-s0/7", settings=settings)
    >>> found.tables
    ('promoted', 'suppressed', 'changed')
    """
    folder = Folder.open(Path(atlas))
    sound = folder.sound()
    sae, index = feature_of(feature, sound.saes)
    with TemporaryDirectory(prefix="atlas-logits-") as room:
        at = TaskContext(folder, sound, Path(room), progress)
        subject = open_subject(
            at, sae, opened=opened, model=model, tokenizer=tokenizer, device=device
        )
        _check_live(subject, index)
        summary, tables = _measured(subject, index, settings=settings, progress=progress)
    promoted = tables["promoted"]["token"].to_pylist()
    result = Result(
        "feature_logits",
        f"{sae}-{index}",
        {"feature": feature} | summary,
        verdict=_verdict(feature, summary, promoted[:_NAMED]),
        tables=(tuple(tables), tables.__getitem__),
    )
    return with_provenance(result, at, saes=[sae], settings=settings, feature=feature)


def _check_live(subject: Subject, index: int) -> None:
    width = subject.opened.sae.info.d_sae
    if index >= width:
        raise BadInput(f"{subject.name} has features 0 to {width - 1}, and {index} was passed.")
    if index not in subject.live.features:
        raise BadInput(
            f"{subject.name}/{index} is never active in the text of the atlas, so it has no effect to measure. "
            "Choose a live feature; `atlas query strongest_features` lists some."
        )


def _measured(
    subject: Subject, index: int, *, settings: LogitSettings, progress: Progress
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """Return the numbers and the tables of a feature."""
    direct, own = DirectLogits(subject), np.array([index])
    logits = direct.of(own)[0].astype(np.float64)
    rank = np.empty(len(logits), dtype=np.int64)
    rank[np.argsort(-logits, kind="stable")] = np.arange(len(logits))
    tokens = subject.tokens_of(own if settings.features else own[:0], settings)
    ablated = subject.ablated(tokens, progress=progress)
    change = ablated.change[:, : len(logits)]

    def table(chosen: NDArray[np.int64]) -> pa.Table:
        columns = {
            "token": token_texts(subject.model.tokenizer, chosen.tolist()),
            "value": logits[chosen],
            "rank": rank[chosen],
            "ablated_change": change[0, chosen] if len(change) else [None] * len(chosen),
        }
        return pa.table(columns, schema=_COLUMNS)

    top = settings.top
    promoted, suppressed = (top_tokens(sign * logits[None], top)[0] for sign in (1.0, -1.0))
    changed = top_tokens(np.abs(change), top)[0] if len(change) else np.zeros(0, dtype=np.int64)
    tables = {
        "promoted": table(promoted[logits[promoted] > 0]),
        "suppressed": table(suppressed[logits[suppressed] < 0]),
        "changed": table(changed),
    }
    summary = {"positions": int(ablated.positions.sum())} | dict.fromkeys(_NUMBERS)
    if len(change):
        summary |= _compared(subject, direct, index, change=change, settings=settings)
    return summary, tables


#: Numbers of the summary that an ablation fills.
_NUMBERS = ("agreement", "control", "p", "others", "hits", "hits_control", "largest_change")


def _compared(
    subject: Subject,
    direct: DirectLogits,
    index: int,
    *,
    change: NDArray[np.float64],
    settings: LogitSettings,
) -> dict[str, Any]:
    """Compare the measured change with the direct logits of the feature and of other features."""
    live = subject.live.features[subject.live.features != index]
    rng = np.random.default_rng(settings.seed)
    others = rng.choice(live, min(_CONTROLS, len(live)), replace=False)
    logits = direct.of(np.array([index, *others]))
    agreed = agreement(logits, change)
    tokens = top_tokens(logits, settings.top)
    promoted = np.take_along_axis(logits, tokens, axis=1) > 0
    falls = change[0][tokens] < 0
    shares = [float(f[p].mean()) if p.any() else None for f, p in zip(falls, promoted, strict=True)]
    known = [share for share in shares[1:] if share is not None]
    return {
        "agreement": _number(agreed.own[0]),
        "control": _number(agreed.control[0]),
        "p": _number(agreed.p[0]),
        "others": len(others),
        "hits": shares[0],
        "hits_control": float(np.mean(known)) if known else None,
        "largest_change": float(np.abs(change).max(initial=0.0)),
    }


def _number(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None


def _verdict(feature: str, summary: dict[str, Any], promoted: Sequence[str]) -> list[str]:
    named = ", ".join(map(repr, promoted)) or "no token"
    first = f"{feature} promotes {named} by its decoder row."
    if not summary["positions"]:
        return [first + " It was not ablated, so whether it does was not measured."]
    tokens = f"Ablated at {summary['positions']} tokens where it is active"
    if summary["agreement"] is None:
        return [first, f"{tokens}, it changes no log-probability."]
    control = (
        "there is no other feature to compare"
        if summary["control"] is None
        else f"mean of {summary['others']} other features {summary['control']:+.2f}, p = {summary['p']:.2g}"
    )
    found = [
        first,
        f"{tokens}: direct logits and measured changes have a rank correlation of {summary['agreement']:+.2f} over "
        f"the vocabulary ({control}).",
    ]
    if summary["hits"] is not None and summary["hits_control"] is not None:
        found.append(
            f"Of its promoted tokens, {summary['hits']:.0%} become less likely without it (promoted tokens of other "
            f"features: {summary['hits_control']:.0%})."
        )
    return found
