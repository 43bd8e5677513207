"""How easily the features of SAEs are described by their tokens, from stored codes."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.interpretability.marks import (
    MARKS,
    FeatureTokens,
    TextTokens,
    described,
    marks,
    partners,
)
from analysis.interpretability.settings import InterpretabilitySettings
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Study, Task, TaskContext, selected_saes
from ingest.codes.store import stored_shards
from ingest.probe.probe_data import ProbeData, training
from ingest.reduce.arrays import graph_table, keys

__all__ = ["InterpretabilityStudy", "interpretability", "measure_interpretability"]

#: Features of the sample for the forecast.
_SAMPLE = 40

#: Active tokens that are read at once.
_ENTRIES = 20_000_000

_WHAT = "A study of interpretability"


@dataclass(frozen=True)
class InterpretabilityStudy(Study):
    """Measure the marks of every feature, for one SAE at a time."""

    kind: ClassVar[str] = "interpretability"
    command: ClassVar[str] = "describe"
    version: ClassVar[int] = 3
    tables: ClassVar[Mapping[str, str]] = {
        "marks": "how well tokens describe each feature",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "detection": "Mean balanced accuracy of descriptions",
    }

    settings: InterpretabilitySettings

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        names = selected_saes(at, saes, ("codes",), what=_WHAT)
        return [
            Task(n, (n,), self.settings, made_from=(f"sae/{n}",), reads=(f"codes/{n}",))
            for n in names
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from a few of its features."""
        data = _data(task, at)
        eligible = _eligible(data, self.settings)
        if not len(eligible):
            return Cost(0.0)
        some = np.random.default_rng(0).permutation(eligible)[:_SAMPLE]
        seconds = timed(lambda: interpretability(data, self.settings, features=np.sort(some)))
        return Cost(seconds * len(eligible) / len(some), bytes=60 * min(_ENTRIES, 40 * len(data)))

    def run(self, task: Task, at: TaskContext) -> Found:
        """Measure the features of one SAE."""
        data = _data(task, at)
        eligible = _eligible(data, self.settings)
        total = 2 * len(eligible)  # described, then marked
        with at.progress.stage(
            f"{task.title}: marks", total=total, unit="steps of features"
        ) as stage:
            columns = interpretability(
                data, self.settings, features=eligible, advance=stage.advance
            )
        table = pa.table({"feature": eligible, **columns})
        tables = [("Feature", _graph_rows(task.name, eligible, columns)), ("marks", table)]
        return Found(tables, sources={"excluded": int(data.d_sae - len(eligible))})

    def result(self, part: Part) -> Result:
        """Return the mean of each mark and of its control."""
        table = part.table("marks")
        sae = part.manifest.saes[0]
        summary: dict[str, Any] = {"sae": sae, "features": table.num_rows}
        for name in (*MARKS, "agreement_control", "detection_control"):
            summary[name] = _mean(table[name].to_numpy()) if name in table.column_names else None
        summary["excluded"] = part.manifest.sources["excluded"]
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(summary),
            tables=(part.manifest.tables, part.table),
        )


def measure_interpretability(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: InterpretabilitySettings = InterpretabilitySettings(),  # noqa: B008 - frozen
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Measure how easily features are described by their tokens, from the stored codes of SAEs.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Numbers of examples and words, and the seed.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE; its table ``marks`` has a row for each feature, with the columns of
    ``analysis.interpretability.marks.marks``.

    Examples
    --------
    >>> from analysis import measure_interpretability
    >>> (result,) = measure_interpretability("demo.atlas", ["tiny-a-l1-s0"])
    >>> len(result.to_pandas("marks")) > 0
    True
    """
    return run_study(
        InterpretabilityStudy(settings),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


def interpretability(
    data: ProbeData,
    settings: InterpretabilitySettings,
    *,
    features: NDArray[np.int64],
    advance: Callable[[float], None] = lambda by: None,
) -> dict[str, NDArray[Any]]:
    """Return the columns of ``marks`` for some features.

    The control of a feature is the description of another one of these features, of similar
    frequency.

    Parameters
    ----------
    data
        The codes of the SAE.
    settings
        Numbers of examples and words, and the seed.
    features
        int64. Index of each feature, in ascending order.
    advance
        Called with the number of features after each step; each feature has two.
    """
    text = TextTokens(data.type, _first_half(data, settings))
    count = data.positives((np.ones(len(data), dtype=np.bool_),), threshold=0.0)[0][features]
    own: list[FeatureTokens] = []
    blocks = list(_blocks(features, count))
    for block in blocks:
        own += described(
            data.occurrences(block),
            text,
            features=block,
            examples=settings.examples,
            words=settings.words,
            seed=settings.seed,
        )
        advance(len(block))
    partner = partners(count)
    found = []
    at = 0
    for block in blocks:
        these = slice(at, at + len(block))
        others = [own[one] for one in partner[these]]
        found.append(marks(data.occurrences(block), text, own[these], others=others))
        at += len(block)
        advance(len(block))
    names = found[0] if found else ()
    return {name: np.concatenate([one[name] for one in found]) for name in names}


#: Property of a Feature for each mark, and for the controls of marks.
_PROPERTIES = {
    "top_share": "top_token_share",
    "entropy": "token_entropy",
    "context_dependence": "context_dependence",
    "agreement": "example_agreement",
    "agreement_control": "example_agreement_control",
    "detection": "detection",
    "detection_control": "detection_control",
}


def _graph_rows(sae: str, features: NDArray[np.int64], marks_of: dict[str, Any]) -> pa.Table:
    """Return the marks as properties of the features."""
    columns: dict[str, Any] = {"id": keys(sae, features)}
    for mark, name in _PROPERTIES.items():
        values = marks_of.get(mark, np.zeros(0))
        columns[name] = pa.array(values, pa.float64(), from_pandas=True)
    return graph_table("Feature", "interpretability", columns).data


def _data(task: Task, at: TaskContext) -> ProbeData:
    shards = stored_shards(at.folder, at.sound, task.name, what=_WHAT)
    (row,) = at.sound.parts[f"sae/{task.name}"].table("SAE").to_pylist()
    data = ProbeData([shards], d_sae=int(row["d_sae"]))
    if len(np.unique(data.document)) < 2:
        raise BadInput(
            f"The text of {task.name} has fewer than 2 documents; {_WHAT.lower()} compares two halves. "
            f"Ingest it with a longer text: `atlas ingest --sae {shlex.quote(task.name)} --text FILE`."
        )
    return data


def _first_half(data: ProbeData, settings: InterpretabilitySettings) -> NDArray[np.bool_]:
    return training(data, "document", share=0.5, seed=settings.seed)


def _eligible(data: ProbeData, settings: InterpretabilitySettings) -> NDArray[np.int64]:
    """Return the features with enough active tokens on both halves, and an inactive one."""
    first = _first_half(data, settings)
    sides = (first, ~first)
    on = np.array(data.positives(sides, threshold=0.0))
    tokens = np.array([[np.count_nonzero(side)] for side in sides])
    return np.flatnonzero(((on >= settings.min_active) & (on < tokens)).all(axis=0))


def _blocks(features: NDArray[np.int64], count: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield features in blocks of a limited number of active tokens."""
    number = np.cumsum(count) // _ENTRIES
    for one in np.unique(number):
        yield features[number == one]


def _mean(values: NDArray[np.float64]) -> float | None:
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if len(finite) else None


def _verdict(summary: dict[str, Any]) -> list[str]:
    if not summary["features"]:
        return [
            f"{summary['sae']}: no feature has enough active tokens on both halves of the documents."
        ]
    return [
        f"{summary['sae']}: a description by top token ids detects the activity of "
        f"{summary['features']:,} features on other documents with a mean balanced accuracy of "
        f"{summary['detection']:.3f} ({summary['detection_control']:.3f} with the description of "
        "another feature of similar frequency).",
        f"Top and middle examples share {summary['agreement']:.2f} of their token ids "
        f"({summary['agreement_control']:.2f} with another feature's middle examples). "
        f"A feature is inactive on {summary['context_dependence']:.0%} of the tokens with the id of an active "
        "token (mean over active tokens).",
    ]
