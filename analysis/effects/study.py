"""The study of effects: one part for each SAE and list of targets, with its effects on the loss and on them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow.compute as pc

from analysis.effects.ablation.attribution import attribution_bytes, attribution_seconds
from analysis.effects.ablation.rows import Edits, measured
from analysis.effects.ablation.sample import SHORTER
from analysis.effects.ablation.source import ablation_delta
from analysis.effects.measure import BATCH, draws_of, measure
from analysis.effects.questions import pair_measures
from analysis.effects.settings import EffectSettings
from analysis.effects.subjects import Opened, later_saes, open_subjects
from analysis.effects.tables import effect_tables
from analysis.effects.verdict import verdict
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.floors import is_floor, role_shown
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.steps import Steps
from atlas.studies.study import Found, Task, TaskContext, selected_saes
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record
from ingest.torch_study import TorchStudy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["EffectStudy", "measure_effects"]

#: Edits of the sample of a forecast, and the contexts that they are in.
_SAMPLE, _CONTEXTS = 192, 16


@dataclass(frozen=True)
class EffectStudy(TorchStudy):
    """Measure what the features of an SAE change as they are ablated.

    Parameters
    ----------
    settings
        Sample, draws and thresholds.
    on
        Names of SAEs at later sites; None for all of the atlas.
    model, tokenizer
        The model, if it is not that of the ingest's source.
    opened
        SAEs that are already open.
    device
        Device of the model.
    """

    kind: ClassVar[str] = "effects"
    version: ClassVar[int] = 4
    tables: ClassVar[Mapping[str, str]] = {
        "summary": "means over features, with controls",
        "calibration": "predicted and measured effects",
    }
    forecasts: ClassVar[int] = 12
    names_floors: ClassVar[bool] = True
    smaller: ClassVar[str] = SHORTER

    settings: EffectSettings
    on: tuple[str, ...] | None = None
    model: "str | PreTrainedModel | None" = None
    tokenizer: Any = None
    opened: Sequence[Autoencoder] = ()
    device: str = "auto"

    @property
    def floors(self) -> Literal["first"]:
        """The floors of the measured SAE."""
        return "first"

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        names = selected_saes(at, saes, ("sae",), what="A study of effects", one_site=True)
        found = []
        for name in names:
            on = sorted(later_saes(at.sound, name, self.on))
            if not on:
                at.progress.report(
                    f"{name}: no SAE of the atlas reads a later site, so effects on the loss alone are measured."
                )
            uses = tuple(f"sae/{n}" for n in (name, *on))
            every = self.on is None or on == sorted(later_saes(at.sound, name, None))
            found.append(
                Task(
                    name if every else f"{name}@{_list_digest(on)}",
                    (name, *on),
                    self.settings,
                    made_from=uses,
                    recorded={"on": list(on)},
                    label=name if every else f"{name} on {', '.join(on)}",
                )
            )
        return found

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from a sample of its edits."""
        opened = self._open(task, at)
        source, contexts, targets = opened.source, opened.contexts, opened.targets
        arms = 2 + draws_of(self.settings, len(source.features))
        near = np.flatnonzero(source.chosen.context < _CONTEXTS)
        some = source.chosen.take(np.random.default_rng(0).permutation(near)[:_SAMPLE])
        edits = Edits(some.context, some.position, ablation_delta(source, some))

        def work() -> None:
            for _ in measured(opened.upper, contexts, edits, targets=targets):
                pass

        work()
        each = timed(work) / max(len(some), 1)
        number = arms * len(source.chosen) + self.settings.joint * _active(opened)
        seconds = number * each + attribution_seconds(
            opened.upper,
            contexts,
            source.chosen,
            vectors=source.vectors,
            targets=targets,
            batch=BATCH,
        )
        pairs = len(source.features) * sum(sae.info.d_sae for sae in targets)
        batch = attribution_bytes(contexts, targets, batch=BATCH)
        return Cost(seconds, bytes=4 * pairs * (5 + 2 * arms) + batch)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Measure one SAE."""
        opened = self._open(task, at)
        steps = self._steps(task, at)
        if finished := steps.finished:
            at.progress.report(f"Continuing an interrupted study: {finished} steps are stored.")
        effects = measure(
            opened.upper,
            opened.contexts,
            opened.source,
            targets=opened.targets,
            settings=self.settings,
            steps=steps,
            progress=at.progress,
        )
        measures = pair_measures(
            opened.upper, opened.contexts, opened.source, targets=opened.targets
        )
        name, *on = task.saes
        role = role_shown(row) if is_floor(row := open_sae_record(at.sound, name).row) else None
        tables = effect_tables(effects, name, on, measures=measures)
        return Found(tables, sources={"floor": role})

    def run_group(self, tasks: Sequence[Task], at: TaskContext) -> Iterator[tuple[Task, Found]]:
        """Measure SAEs; the steps of each are removed once it is stored."""
        for task, found in super().run_group(tasks, at):
            yield task, found
            self._steps(task, at).end()

    def result(self, part: Part) -> Result:
        """Return the numbers of one SAE."""
        (summary,) = part.table("summary").to_pylist()
        role = part.manifest.sources.get("floor")
        return Result(
            self.kind,
            part.manifest.name,
            summary | ({"role": role} if role else {}),
            verdict=verdict(
                summary | {"role": role},
                q=part.manifest.settings["q"],
                edges=part.table("AFFECTS"),
                lowest_q=pc.min(part.table("Feature")["effect_q"]).as_py(),
            ),
            tables=(part.manifest.tables, part.table),
        )

    def _steps(self, task: Task, at: TaskContext) -> Steps:
        """Return the steps of a task; those of other settings or inputs are removed."""
        inputs = {key: at.sound.parts[key].manifest.hash for key in task.made_from}
        core = json.dumps([self.version, task.stored_settings, inputs], sort_keys=True)
        digest = hashlib.sha256(core.encode()).hexdigest()[:12]
        return Steps(at.folder.cache / f"effects-{task.name}-{digest}")

    def _open(self, task: Task, at: TaskContext) -> Opened:
        return open_subjects(
            at.folder,
            at.sound,
            task.saes,
            settings=self.settings,
            model=self.model,
            tokenizer=self.tokenizer,
            opened=self.opened,
            device=self.device,
        )


def measure_effects(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    on: Sequence[str] | None = None,
    settings: EffectSettings = EffectSettings(),  # noqa: B008 - frozen
    model: "str | PreTrainedModel | None" = None,
    tokenizer: Any = None,
    opened: Sequence[Autoencoder] = (),
    device: str = "auto",
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Measure what the features of SAEs change in the loss and in the features of later SAEs.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs whose features are ablated, or ``"all"``. Default: the first.
    on
        Names of SAEs at later sites of the same model; all of the atlas that were trained if None.
    settings
        Sample, draws and thresholds.
    model, tokenizer
        The model, by name, folder or in memory; by default that of the ingest.
    opened
        SAEs that are already open, such as those in memory.
    device
        Device of the model.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
        A result for each SAE, with the tables ``Feature``, ``AFFECTS`` and ``calibration``.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Mismatch
        If a target does not read a later site of the same model.
    BadInput, Missing
        If the model or the weights of an SAE are not available, or no feature can be measured.

    Examples
    --------
    >>> from analysis import EffectSettings, measure_effects
    >>> settings = EffectSettings(contexts=8, features=5, directions=20)
    >>> saes, on = ["tiny-a-l0-s0"], ["tiny-a-l1-s0"]
    >>> (result,) = measure_effects("demo.atlas", saes, on=on, settings=settings)
    >>> result.kind
    'effects'
    """
    if on is not None and not on:
        raise BadInput("on= is empty; name SAEs at later sites, or omit it for all.")
    study = EffectStudy(
        settings,
        None if on is None else tuple(on),
        model=model,
        tokenizer=tokenizer,
        opened=tuple(opened),
        device=device,
    )
    return run_study(
        study, atlas, saes, replace=replace, workers=workers, ray=ray, progress=progress
    )


def _active(opened: Opened) -> float:
    """Return the mean number of features that are active at a token with any."""
    every = opened.source.every
    return len(every) / len(np.unique(every.context * (1 << 32) + every.position))


def _list_digest(on: Sequence[str]) -> str:
    """Return a short name of a list of targets: each list of an SAE has its own part."""
    return hashlib.sha256("\n".join(on).encode()).hexdigest()[:12]
