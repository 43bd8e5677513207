"""The study of logits: the tokens that each feature promotes and suppresses, by its decoder row and measured.

The direct logits of a feature are its decoder row through final norm and unembedding; see
``ingest.model.unembedding``. They ignore every later block. Therefore a sample of features is
ablated where it is active, and the measured change of all log-probabilities is compared with
the direct logits of the feature and with those of other features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.logits.ablation import Ablated
from analysis.logits.agreement import Agreement, agreement, top_tokens
from analysis.logits.settings import LogitSettings
from analysis.logits.subject import WHAT, DirectLogits, Subject, open_subject
from atlas.disk.parts import Part
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, selected_saes
from ingest.device_timing import timed_on
from ingest.reduce.arrays import graph_table, keys, nullable
from ingest.sae.autoencoder import Autoencoder
from ingest.text.tokenization import token_texts
from ingest.torch_study import TorchStudy

__all__ = ["LogitStudy", "measure_logits"]

#: Features whose direct logits are computed at once.
_AT_ONCE = 256

#: Ablations that are timed for the forecast: the second number costs more by the time of the difference.
_TIMED = (4, 64)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LogitStudy(TorchStudy):
    """Find the tokens that features promote, for one SAE at a time.

    Parameters
    ----------
    settings
        Settings of the study.
    opened
        SAEs that were in memory at ingest.
    model, tokenizer, device
        As for ``ingest.sae.record.reopen_model``.
    """

    kind: ClassVar[str] = "logits"
    version: ClassVar[int] = 1
    tables: ClassVar[Mapping[str, str]] = {
        "Token": "the tokens of its edges",
        "features": "agreement of direct logits and measured changes of the ablated features",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "agreement": "Median rank correlation of direct logits and measured changes",
    }

    settings: LogitSettings
    opened: tuple[Autoencoder, ...] = ()
    model: Any = None
    tokenizer: Any = None
    device: str = "auto"

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        needs = ("statistics", *(("codes",) if self.settings.features else ()))
        names = selected_saes(at, saes, needs, what=WHAT, one_site=True)
        return [
            Task(
                name,
                (name,),
                self.settings,
                made_from=(f"sae/{name}", f"statistics/{name}"),
                reads=(f"codes/{name}",) if self.settings.features else (),
            )
            for name in names
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from the ablation of a few features."""
        subject = self._subject(task.name, at)
        tokens = subject.sample(self.settings)
        vocabulary = subject.model.vocabulary
        size = 4 * vocabulary * (subject.model.d_model + _AT_ONCE + 4 * self.settings.features)
        if not len(tokens):
            return Cost(0.0, bytes=size)
        few = tokens.of_block(int(tokens.block[0]))
        less, more = (min(number, len(few)) for number in _TIMED)

        def seconds(number: int) -> float:
            some = few.first(number)
            return timed_on(subject.model.device, lambda: subject.ablated(some))

        once = seconds(less)
        each = max(seconds(more) - once, 1e-9) / (more - less) if more > less else once / less
        return Cost(once + each * (len(tokens) - less), bytes=size)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute the edges of one SAE."""
        subject = self._subject(task.name, at)
        direct = DirectLogits(subject)
        tokens = subject.sample(self.settings)
        ablated = subject.ablated(tokens, progress=at.progress)
        own = direct.of(ablated.features)
        agreed = agreement(own, ablated.change[:, : subject.model.vocabulary])
        edges = _Edges.of(direct, top=self.settings.top)
        features = _features(subject, ablated, agreed, edges=edges, direct=own)
        return Found(
            [
                ("PROMOTES", edges.table("PROMOTES", subject, ablated)),
                ("SUPPRESSES", edges.table("SUPPRESSES", subject, ablated)),
                ("Token", _tokens(subject, edges)),
                ("Feature", _graph_rows(subject, ablated, agreed)),
                ("features", features),
            ],
            sources={"softcap": direct.softcap, "site": subject.hook},
        )

    def result(self, part: Part) -> Result:
        """Return how far direct logits and measured changes agree."""
        sae = part.manifest.saes[0]
        rows = part.table("features").to_pylist()
        summary: dict[str, Any] = {
            "sae": sae,
            "site": part.manifest.sources["site"],
            "features": len(part.table("Feature")),
            "promotes": len(part.table("PROMOTES")),
            "ablated": len(rows),
        }
        for name in ("agreement", "control", "hits", "hits_control"):
            summary[name] = _median([row[name] for row in rows])
        known = [row["p"] for row in rows if row["p"] is not None]
        summary["p_at_most_0.05"] = float(np.mean(np.array(known) <= 0.05)) if known else None
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(summary),
            tables=(part.manifest.tables, part.table),
        )

    def _subject(self, name: str, at: TaskContext) -> Subject:
        return open_subject(
            at,
            name,
            opened=self.opened,
            model=self.model,
            tokenizer=self.tokenizer,
            device=self.device,
        )


def measure_logits(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: LogitSettings = LogitSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    model: Any = None,
    tokenizer: Any = None,
    device: str = "auto",
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Find the tokens that the features of SAEs promote and suppress, and measure whether they do.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Number of tokens that are stored, and of features that are ablated.
    opened
        SAEs that were in memory at ingest; others are opened from their stored source.
    model, tokenizer, device
        The model with its head, by name, folder or in memory; the one that the atlas records if
        None. The tokenizer of a model in memory. The device of a model that is opened here.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE. Its tables ``PROMOTES`` and ``SUPPRESSES`` have the edges, and
    ``features`` the agreement with the measured changes.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    BadInput, Mismatch, Missing
        If model or SAE are not available, are not those of the ingest, or have no linear head.

    Notes
    -----
    Direct logits are known as direct logit attribution of the decoder row [1]_, or as logit lens
    of a feature.

    References
    ----------
    .. [1] nostalgebraist, "interpreting GPT: the logit lens", 2020.

    Examples
    --------
    >>> from analysis import LogitSettings, measure_logits
    >>> settings = LogitSettings(features=4, positions=4)
    >>> (result,) = measure_logits("demo.atlas", ["tiny-a-l1-s0"], settings=settings)
    >>> result.kind
    'logits'
    """
    study = LogitStudy(settings, tuple(opened), model, tokenizer, device)
    return run_study(
        study, atlas, saes, replace=replace, workers=workers, ray=ray, progress=progress
    )


@dataclass(frozen=True, eq=False)
class _Edges:
    """The tokens of the highest and of the lowest direct logits of each live feature.

    Parameters
    ----------
    features
        int64, (features,).
    tokens, values
        By type of edge, (features, tokens): token ids and direct logits.
    """

    features: NDArray[np.int64]
    tokens: dict[str, NDArray[np.int64]]
    values: dict[str, Floats]

    @classmethod
    def of(cls, direct: DirectLogits, *, top: int) -> "_Edges":
        tokens: dict[str, list[NDArray[np.int64]]] = {"PROMOTES": [], "SUPPRESSES": []}
        values: dict[str, list[NDArray[np.float32]]] = {"PROMOTES": [], "SUPPRESSES": []}
        for first in range(0, max(len(direct.features), 1), _AT_ONCE):
            logits = direct.of(direct.features[first : first + _AT_ONCE])
            for name, sign in (("PROMOTES", 1.0), ("SUPPRESSES", -1.0)):
                chosen = top_tokens(sign * logits, top)
                tokens[name].append(chosen)
                values[name].append(np.take_along_axis(logits, chosen, axis=1))
        return cls(
            direct.features,
            {name: np.concatenate(each) for name, each in tokens.items()},
            {name: np.concatenate(each).astype(np.float64) for name, each in values.items()},
        )

    def table(self, name: str, subject: Subject, ablated: Ablated) -> pa.Table:
        """Return the edges of a type; a token that is not promoted (suppressed) has none."""
        tokens, values = self.tokens[name], self.values[name]
        own = (values if name == "PROMOTES" else -values) > 0
        feature, rank = np.nonzero(own)
        chosen = tokens[own]
        change = np.full(own.shape, np.nan)
        at = np.searchsorted(self.features, ablated.features)
        change[at] = np.take_along_axis(ablated.change, tokens[at], axis=1)
        return graph_table(
            name,
            "logits",
            {
                "source": keys(subject.name, self.features[feature]),
                "target": keys(subject.model.tokenizer_key, chosen),
                "value": values[own],
                "rank": rank,
                "ablated_change": nullable(change[own], null=np.isnan(change[own])),
            },
        ).data


def _tokens(subject: Subject, edges: _Edges) -> pa.Table:
    """Return the rows of the tokens of all edges."""
    used = np.unique(np.concatenate([edges.tokens[name].ravel() for name in edges.tokens]))
    return graph_table(
        "Token",
        "logits",
        {
            "id": keys(subject.model.tokenizer_key, used),
            "tokenizer": [subject.model.tokenizer_key] * len(used),
            "token_id": used,
            "text": token_texts(subject.model.tokenizer, used.tolist()),
        },
    ).data


def _graph_rows(subject: Subject, ablated: Ablated, agreed: Agreement) -> pa.Table:
    """Return the properties of the live features."""
    live = subject.live.features
    at = np.searchsorted(live, ablated.features)
    positions = np.zeros(len(live), dtype=np.int64)
    positions[at] = ablated.positions
    columns: dict[str, Any] = {"id": keys(subject.name, live)}
    for name, values in (
        ("logit_agreement", agreed.own),
        ("logit_agreement_control", agreed.control),
        ("logit_agreement_p", agreed.p),
    ):
        every = np.full(len(live), np.nan)
        every[at] = values
        columns[name] = nullable(every, null=np.isnan(every))
    columns["logit_positions"] = pa.array(positions, mask=positions == 0)
    return graph_table("Feature", "logits", columns).data


def _features(
    subject: Subject,
    ablated: Ablated,
    agreed: Agreement,
    *,
    edges: _Edges,
    direct: NDArray[np.float32],
) -> pa.Table:
    """Return a row for each ablated feature.

    ``hits`` is the share of its promoted tokens whose log-probability falls when it is ablated;
    ``hits_control`` is the mean of the same share over the promoted tokens of the other
    ablated features.
    """
    at = np.searchsorted(edges.features, ablated.features)
    tokens, promoted = edges.tokens["PROMOTES"][at], edges.values["PROMOTES"][at] > 0
    falls = ablated.change < 0
    number = len(ablated.features)
    # Row f, column g: share of the promoted tokens of g that fall when f is ablated.
    share = np.full((number, number), np.nan)
    for g in range(number):
        if promoted[g].any():
            share[:, g] = falls[:, tokens[g][promoted[g]]].mean(axis=1)
    others = share.copy()
    np.fill_diagonal(others, np.nan)
    known = np.isfinite(others)
    mean = np.divide(
        np.nan_to_num(others).sum(axis=1),
        known.sum(axis=1),
        out=np.full(number, np.nan),
        where=known.any(axis=1),
    )
    size = np.linalg.norm(direct, axis=1).astype(np.float64)
    fall = np.abs(ablated.change).max(axis=1, initial=0.0)
    columns = {
        "agreement": agreed.own,
        "control": agreed.control,
        "p": agreed.p,
        "hits": np.diagonal(share),
        "hits_control": mean,
        "logit_norm": size,
        "largest_change": fall,
    }
    plain = {
        "feature": keys(subject.name, ablated.features),
        "positions": pa.array(ablated.positions, pa.int64()),
    }
    return pa.table(
        plain
        | {n: nullable(v.astype(np.float64), null=~np.isfinite(v)) for n, v in columns.items()}
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _verdict(summary: dict[str, Any]) -> list[str]:
    """State whether direct logits predict measured changes, and the number of edges."""
    sae, ablated = summary["sae"], summary["ablated"]
    edges = f"{summary['promotes']:,} edges PROMOTES of {summary['features']:,} live features."
    if not ablated:
        return [
            f"{sae}: no feature was ablated, so whether direct logits hold was not measured.",
            f"The graph has {edges}",
        ]
    if summary["agreement"] is None:
        return [f"{sae}: the ablations changed no log-probability.", f"The graph has {edges}"]
    control, share = summary["control"], summary["p_at_most_0.05"]
    first = (
        f"{sae}: direct logits were compared with measured changes of {ablated:,} ablated features."
    )
    if share is not None:
        first = (
            f"{sae}: for {share:.0%} of {ablated:,} ablated features, direct logits predict the measured "
            "changes better than those of other features (p ≤ 0.05; by chance, at most 5%)."
        )
    shown = (
        "no other feature to compare"
        if control is None
        else f"{_rounded(control)} for other features"
    )
    sentences = [
        first,
        f"The median rank correlation of both is {_rounded(summary['agreement'])} ({shown}).",
    ]
    if summary["hits"] is not None and summary["hits_control"] is not None:
        sentences.append(
            "The median share of promoted tokens that become less likely when the feature is ablated is "
            f"{summary['hits']:.0%} (promoted tokens of other features: {summary['hits_control']:.0%})."
        )
    return [*sentences, f"The graph has {edges}"]


def _rounded(value: float) -> str:
    """Return two digits after the point, without the sign of a value that rounds to 0."""
    return f"{round(value, 2) + 0.0:.2f}"
