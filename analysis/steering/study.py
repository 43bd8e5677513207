"""The study of steering: every arm on a task, at a strength that a development half chooses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from analysis.steering.arms import arms_of, contrast, find_features
from analysis.steering.evaluation import RANDOM, RANDOM_SET, choose, curve_of
from analysis.steering.scoring import damage, target_rows
from analysis.steering.settings import SteeringSettings
from analysis.steering.subject import Subject, feature_of, open_subject
from analysis.steering.tasks import SteeringTask, read_task
from analysis.steering.verdict import verdict_of
from atlas.disk.folder import Folder
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, check_saes
from ingest.device_timing import timed_on
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record
from ingest.torch_study import TorchStudy

__all__ = ["SteeringStudy", "features_by_sae", "steer_task"]


@dataclass(frozen=True)
class SteeringStudy(TorchStudy):
    """Steer one SAE at a time on a task.

    Parameters
    ----------
    settings
        Settings of steering.
    task
        The task.
    features
        Steered features of one SAE; found on the contrasting prompts if empty.
    opened, model, tokenizer, device
        See ``analysis.steering.subject.open_subject``.
    """

    kind: ClassVar[str] = "steering"
    command: ClassVar[str] = "steer"
    version: ClassVar[int] = 4
    part_names: ClassVar[str] = "`sae@task@features`, the features as indices, `found`, or a digest"
    tables: ClassVar[Mapping[str, str]] = {
        "arms": "each arm at its chosen strength, on the test half",
        "curve": "all strengths",
    }

    settings: SteeringSettings
    task: SteeringTask
    features: tuple[int, ...] = ()
    opened: tuple[Autoencoder, ...] = ()
    model: Any = None
    tokenizer: Any = None
    device: str = "auto"

    @property
    def floors(self) -> Literal["all", "none"]:
        """The floors of the SAE, unless features are named: those of a floor are others."""
        return "none" if self.features else "all"

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """An SAE is always named."""
        return 0

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        if not saes:
            raise BadInput(
                "No SAE was named. Name a feature, as in `features=('SAE/INDEX',)`, or an SAE with `saes`."
            )
        names = check_saes(at.sound, saes)
        for name in names:
            open_sae_record(at.sound, name).check_features(self.features)
        return [
            Task(
                f"{name}@{_label(self.task.name)}@{_label('-'.join(map(str, self.features)) or 'found')}",
                (name,),
                self.settings,
                made_from=(f"sae/{name}", f"statistics/{name}"),
                recorded={
                    "task": self.task.name,
                    "task_digest": self.task.digest,
                    "features": list(self.features),
                },
                label=f"{name} on {self.task.name}",
            )
            for name in names
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from the score of the prompts and the damage without an edit."""
        subject = self._subject(task.saes[0], at)
        prompts = target_rows(subject, self.task.tests)
        first = next(iter(subject.neutral(1, seed=self.settings.seed)))
        device = subject.model.device
        scoring = timed_on(device, lambda: prompts.score(subject, []))
        batch = timed_on(device, lambda: damage(subject, [first], [[]], progress=SILENT))
        neutral = batch * self.settings.neutral_tokens / len(first.rows)
        kinds = 1 if len(self.features) == 1 else 2
        points = len(self.settings.strengths) * (1 + kinds * (1 + self.settings.random)) + 2
        size = 16 * first.input_ids.size * subject.model.vocabulary
        return Cost(points * (scoring + 1.5 * neutral), bytes=size)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Score all arms of one SAE."""
        settings, subject = self.settings, self._subject(task.saes[0], at)
        subject.check_live(self.features)
        prompts = target_rows(subject, self.task.tests)
        found = contrast(subject, self.task)
        features = list(self.features) or find_features(subject, found, settings.find)
        how = {"number": settings.random, "seed": settings.seed}
        arms = arms_of(
            subject,
            found,
            features,
            random=subject.similar(features[0], **how),
            random_sets=subject.similar_sets(features, **how) if len(features) > 1 else (),
        )
        curve = curve_of(subject, prompts, arms, settings=settings, progress=at.progress)
        return Found(
            [
                (
                    "arms",
                    pa.Table.from_pylist(choose(curve, most_kl=settings.most_kl), schema=_ARMS),
                ),
                ("curve", pa.Table.from_pylist(curve, schema=_CURVE)),
            ],
            sources={
                "task": self.task.name,
                "about": self.task.about,
                "made_for": self.task.made_for,
                "site": subject.hook,
            },
        )

    def result(self, part: Part) -> Result:
        """Return the success of each arm on the test half."""
        rows = part.table("arms").to_pylist()
        summary = _summary(part, rows)
        summary["any_success"] = _most_successes(part.table("curve"))
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict_of(summary),
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
            neutral_tokens=self.settings.neutral_tokens,
        )


def steer_task(
    atlas: str | Path,
    task: str | Path,
    features: Sequence[str] = (),
    *,
    saes: Sequence[str] = (),
    settings: SteeringSettings = SteeringSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    model: Any = None,
    tokenizer: Any = None,
    device: str = "auto",
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Steer features on a task, next to every control.

    The arms are nothing, the reconstruction of the SAE alone, the first feature, all features
    together, the difference of means of contrasting prompts, and random features of similar
    frequency. At one strength, all vectors have the same norm. A development half of the prompts
    chooses the strength of each arm, and the other half is reported.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    task
        Name of a task of the package (``analysis.steering.tasks.task_names``), or a file.
    features
        Features of one SAE, ``sae/index``.
    saes
        Without features: SAEs whose features are found on the contrasting prompts.
    settings
        Strengths, edited tokens, and number of random features.
    opened, model, tokenizer, device
        SAEs that were in memory at ingest; the model with its head, its tokenizer and device. By
        default the atlas records them.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE. Its table ``arms`` has the scores of the test half, and ``curve`` those
    of all strengths.

    Raises
    ------
    BadInput, UnknownName
        If the task, a feature or an SAE is not valid, or a feature is never active.
    Mismatch, Missing
        If the model is not that of the SAE, or is not available.

    Examples
    --------
    >>> from analysis import SteeringSettings, steer_task
    >>> settings = SteeringSettings(strengths=(1.0,), random=1, neutral_tokens=200)
    >>> (result,) = steer_task("demo.atlas", "feelings", ["tiny-a-l1-s0/7"], settings=settings)
    >>> result.kind
    'steering'
    """
    own = features_by_sae(Folder.open(Path(atlas)).sound().saes, features)
    if len(own) > 1 or (own and saes and list(own) != list(saes)):
        raise BadInput(
            f"The features are of {', '.join(own)}, and {', '.join(saes) or 'no SAE'} was named. Name features of one "
            "SAE, and no other SAE."
        )
    study = SteeringStudy(
        settings,
        read_task(task),
        tuple(next(iter(own.values()), ())),
        tuple(opened),
        model,
        tokenizer,
        device,
    )
    return run_study(
        study,
        atlas,
        list(own) or list(saes),
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


def features_by_sae(saes: Sequence[str], features: Sequence[str]) -> dict[str, list[int]]:
    """Return the indices of named features, by SAE.

    Raises
    ------
    BadInput, UnknownName
        If a name is not that of a feature of these SAEs.

    Examples
    --------
    >>> features_by_sae(["a", "b"], ["a/3", "a/1", "a/3"])
    {'a': [3, 1]}
    """
    found: dict[str, list[int]] = {}
    for name in dict.fromkeys(features):
        sae, index = feature_of(name, saes)
        found.setdefault(sae, []).append(index)
    return found


def _label(text: str) -> str:
    """Return a short text as it is, and another one as a digest: names of parts are names of folders."""
    if len(text) <= 40 and text.isascii() and text.replace("-", "").isalnum():
        return text
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _summary(part: Part, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sources = part.manifest.sources
    own = next(row for row in rows if row["arm"] == "feature")
    most = max(
        (row for row in rows if row["arm"] in ("feature", "set")), key=lambda r: len(r["features"])
    )
    summary: dict[str, Any] = {
        "sae": part.manifest.saes[0],
        "task": sources["task"],
        "made_for": sources["made_for"],
        "features": list(most["features"]),
        "prompts": own["prompts"],
    }
    for name, arm in _NAMES.items():
        row = next((row for row in rows if row["arm"] == arm), None)
        if row is None:
            continue
        summary[f"{name}_success"] = row["success"]
        if name in ("feature", "set", "difference"):
            summary |= {f"{name}_{key}": row[key] for key in _SCORES}
        elif name == "reconstruction":
            summary[f"{name}_kl"] = row["kl"]
    for prefix, arm in (("random", RANDOM), ("random_set", RANDOM_SET)):
        random = [row for row in rows if row["arm"] == arm]
        if not random and arm == RANDOM_SET:
            continue
        summary[prefix] = len(random)
        for key in ("success", "logprob_change", "kl", "loss"):
            values = [row[key] for row in random]
            summary[f"{prefix}_{key}"] = float(np.mean(values)) if values else None
    return summary


def _most_successes(curve: pa.Table) -> int:
    """Return the most prompts of either half that succeed in any arm at any strength."""
    counts: list[int] = []
    for name in ("success", "success_development"):
        counts += curve[name].to_pylist()
    return max(counts)


#: Numbers of the summary, with the prefix of their arm.
_SCORES = (
    "strength",
    "low",
    "high",
    "gain_p",
    "success_p",
    "logprob_change",
    "logprob_p",
    "kl",
    "loss",
)

#: Prefixes of the summary, and the arms that they stand for.
_NAMES = {
    "nothing": "nothing",
    "reconstruction": "reconstruction",
    "feature": "feature",
    "set": "set",
    "difference": "difference of means",
}


#: Numbers of prompts; those gained and lost are compared with no edit.
_COUNTS = ("prompts", "success", "gained", "lost")

_CURVE = pa.schema(
    [
        ("number", pa.int64()),
        ("arm", pa.string()),
        ("features", pa.list_(pa.string())),
        ("strength", pa.float64()),
    ]
    + [
        (f"{name}{suffix}", pa.int64() if name in _COUNTS else pa.float64())
        for suffix in ("", "_development")
        for name in (*_COUNTS, "logprob", "kl", "loss")
    ]
)
_ARMS = pa.schema(
    [*_CURVE]
    + [
        (name, pa.float64())
        for name in ("low", "high", "gain_p", "success_p", "logprob_change", "logprob_p")
    ]
)
