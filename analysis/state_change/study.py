"""The study of state changes: all features before and after an edit, at its site and at later ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from analysis.state_change.changes import (
    Change,
    change_of,
    compared,
    moved,
    moved_by_random,
)
from analysis.state_change.maps import map_states, neighbour_overlap
from analysis.state_change.settings import StateSettings
from analysis.state_change.states import (
    State,
    TextSample,
    contexts_with,
    reached_tokens,
    read_state,
    sampled_text,
    text_with_features,
)
from analysis.state_change.verdict import verdict
from analysis.steering.study import features_by_sae
from analysis.steering.subject import Subject, open_subject
from atlas.disk.folder import Folder
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.floors import is_floor
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, check_saes
from ingest.device_timing import timed_on
from ingest.model.feature_edits import (
    FeatureEdit,
    FeatureEdits,
    ablate,
    add,
    clamp,
    randomised,
    scale,
)
from ingest.model.sites import depth
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record, reopen_sae
from ingest.torch_study import TorchStudy

__all__ = ["StateStudy", "compare_states", "requested_tokens"]

#: Numbers of each SAE in the summary.
_COUNTS = ("moved", "moved_by_random", "moved_by_random_most", "overlap", "overlap_by_random")

#: Edits that change a feature where it is active alone.
_OF_ACTIVE = ("ablate", "scale")


@dataclass(frozen=True)
class StateStudy(TorchStudy):
    """Compare the states before and after an edit of features of one SAE.

    Parameters
    ----------
    settings
        Settings of the study.
    features
        The edited features.
    on
        SAEs whose features are compared, and no others; all at the site or later ones of the model if
        empty.
    opened, model, tokenizer, device
        See ``analysis.steering.subject.open_subject``.
    """

    kind: ClassVar[str] = "state_change"
    command: ClassVar[str] = "changes"
    version: ClassVar[int] = 5
    part_names: ClassVar[str] = "`sae@features@edit`, and `@list` if only some SAEs are compared"
    tables: ClassVar[Mapping[str, str]] = {
        "changes": "each feature before and after",
        "saes": "numbers of moved features",
        "edited": "edited features, and their text",
        "map": "both states on one map",
    }

    settings: StateSettings
    features: tuple[int, ...] = ()
    on: tuple[str, ...] = ()
    opened: tuple[Autoencoder, ...] = ()
    model: Any = None
    tokenizer: Any = None
    device: str = "auto"

    @property
    def floors(self) -> Literal["none"]:
        """None: the features of a floor are others."""
        return "none"

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """An SAE is always named."""
        return 0

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return the task of the edited SAE."""
        (name,) = check_saes(at.sound, saes or ())
        open_sae_record(at.sound, name).check_features(self.features)
        targets, every = (self._targets(at, name, on) for on in (self.on, ()))
        chosen = "-".join(map(str, self.features))
        label = chosen if len(chosen) <= 40 else sha256(chosen.encode()).hexdigest()[:12]
        some = "" if targets == every else f"@{sha256('|'.join(targets).encode()).hexdigest()[:12]}"
        on = f" on {', '.join(targets)}" if some else ""
        return [
            Task(
                f"{name}@{label}@{self.settings.edit}{some}",
                (name,),
                self.settings,
                made_from=(
                    f"statistics/{name}",
                    *(f"sae/{one}" for one in dict.fromkeys([name, *targets])),
                ),
                recorded={
                    "features": list(self.features),
                    "on": targets,
                    "floors": [
                        one for one in targets if is_floor(open_sae_record(at.sound, one).row)
                    ],
                },
                label=", ".join(f"{name}/{feature}" for feature in self.features) + on,
            )
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost, from the search, the state and the neighbours in the first batch."""
        subject = self._subject(task.saes[0], at)
        text = sampled_text(subject, 1, seed=self.settings.seed)
        saes = _with_own(subject, self._saes(at, subject, task))
        found: list[State] = []

        def state() -> None:
            found.append(read_state(subject.complete, saes, text, hook=subject.hook, edits=[]))

        def overlaps() -> None:
            for codes in found[0].codes.values():
                neighbour_overlap(codes, codes, neighbours=self.settings.neighbours)

        once = timed_on(subject.model.device, state) * (self.settings.draws + 2)
        once += timed_on(subject.model.device, overlaps) * (self.settings.draws + 1)
        tokens = self.settings.tokens
        size = 4 * tokens * sum(sae.info.d_sae for sae in saes)
        seconds = once / max(len(text.document), 1) * tokens + self._search(subject, text)
        return Cost(seconds, bytes=size)

    def _search(self, subject: Subject, text: TextSample) -> float:
        """Return the seconds of the search for contexts with the features, from the first batch."""
        if not _searches(self.settings):
            return 0.0
        inside: list[int] = []

        def search() -> None:
            _, there = contexts_with(subject, text.batches[0], self.features)
            inside.append(int(there.sum()))

        once = timed_on(subject.model.device, search)
        batch = max(len(text.document), 1)
        searched = self.settings.search
        if inside[0]:
            searched = min(searched, math.ceil(self.settings.tokens * batch / inside[0]))
        return once / batch * searched

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute the changes of all features."""
        settings, subject = self.settings, self._subject(task.saes[0], at)
        subject.check_live(self.features)
        saes = self._saes(at, subject, task)
        text = _text(subject, self.features, settings, at.progress)
        before, after, controls = self._states(subject, _with_own(subject, saes), text, at.progress)
        reached = reached_tokens(text, before.site, after.site)
        changes, summaries, positions = [], [], []
        for sae in saes:
            found = _Compared.of(
                sae.info.name,
                before,
                after,
                controls=controls,
                text=text,
                at=reached,
                neighbours=settings.neighbours,
            )
            edited = self.features if sae.info.name == subject.name else ()
            changes += compared(sae.info.name, found.own, found.controls, edited=edited)
            summaries.append(found.summary(sae.info.hook, reached))
            if settings.layout != "none":
                maps = map_states(
                    before.codes[sae.info.name],
                    after.codes[sae.info.name],
                    method=settings.layout,
                    seed=settings.seed,
                )
                positions += maps.rows(sae.info.name) if maps is not None else []
        edited_rows = _edited(subject.name, self.features, before, after, text, at=reached)
        return Found(
            [
                ("edited", pa.Table.from_pylist(edited_rows, schema=_EDITED)),
                ("changes", pa.Table.from_pylist(changes, schema=_CHANGES)),
                ("saes", pa.Table.from_pylist(summaries, schema=_SAES)),
                ("map", pa.Table.from_pylist(positions, schema=_MAP)),
            ],
            sources={"edit": settings.edit, "site": subject.hook},
        )

    def _states(
        self, subject: Subject, saes: Sequence[Autoencoder], text: TextSample, progress: Progress
    ) -> tuple[State, State, list[State]]:
        """Return the states before and after the edit, and after each random direction."""
        settings = self.settings
        edits = [_edit(subject, feature, settings) for feature in self.features]
        chosen: list[Sequence[FeatureEdit]] = [[], edits]
        chosen += [
            [randomised(edit, settings.seed + 1 + draw) for edit in edits]
            for draw in range(settings.draws)
        ]
        title = f"Before and after the edit, and after {settings.draws} random ones"
        with progress.stage(title, total=len(chosen) * len(text.batches), unit="batches") as stage:
            before, after, *controls = (
                read_state(
                    subject.complete,
                    saes,
                    text,
                    hook=subject.hook,
                    edits=[FeatureEdits(subject.sae, some)] if some else [],
                    stage=stage,
                )
                for some in chosen
            )
        return before, after, controls

    def result(self, part: Part) -> Result:
        """Return the numbers of moved features, by SAE."""
        stored = part.manifest.settings
        names = [f"{part.manifest.saes[0]}/{i}" for i in stored["features"]]
        saes = part.table("saes").to_pylist()
        edited = part.table("edited").to_pylist()
        summary = {
            "features": names,
            "edit": stored["edit"],
            "tokens": saes[0]["tokens"],
            "reached": saes[0]["reached"],
            "edited_tokens": edited[0]["edited_tokens"],
            "searched": edited[0]["searched"],
        }
        for row in saes:
            for key in _COUNTS:
                summary[f"{row['sae']}_{key}"] = row[key]
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict(
                summary,
                saes,
                part.table("changes").to_pylist(),
                edited=edited,
                requested=requested_tokens(stored),
                draws=stored["draws"],
                floors=stored["floors"],
            ),
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

    def _saes(self, at: TaskContext, subject: Subject, task: Task) -> list[Autoencoder]:
        found = []
        for name in task.recorded["on"]:
            if name == subject.name:
                found.append(subject.sae)
            else:
                row = open_sae_record(at.sound, name).row
                found.append(reopen_sae(row, self.opened).to(subject.model.device))
        return found

    def _targets(self, at: TaskContext, name: str, on: Sequence[str]) -> list[str]:
        """Return the SAEs that are compared: the edited one first, then by depth; all if ``on`` is empty."""
        own = open_sae_record(at.sound, name)

        def site_depth(row: Mapping[str, Any]) -> tuple[int, int]:
            return depth(row["hook"], model=own.row["model"], layers=own.model["layers"])

        rows = {
            one: open_sae_record(at.sound, one).row
            for one in check_saes(at.sound, on or at.sound.saes)
        }
        found = []
        for one, row in rows.items():
            if row["model"] == own.row["model"] and site_depth(row) >= site_depth(own.row):
                if one != name:
                    found.append((site_depth(row), one))
            elif on:
                why = (
                    f"it reads the model {row['model']}"
                    if row["model"] != own.row["model"]
                    else f"its site {row['hook']} is before {own.row['hook']}"
                )
                raise BadInput(
                    f"An edit of {name} cannot change {one}: {why}. Name SAEs at the same site or at later ones."
                )
        own_first = [name] if name in rows else []
        return [*own_first, *(one for _, one in sorted(found))]


def compare_states(
    atlas: str | Path,
    features: Sequence[str],
    *,
    on: Sequence[str] = (),
    settings: StateSettings = StateSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    model: Any = None,
    tokenizer: Any = None,
    device: str = "auto",
    replace: bool = False,
    progress: Progress = SILENT,
) -> Results:
    """Edit features and compare all features before and after, on the same tokens.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    features
        The edited features of one SAE, ``sae/index``.
    on
        SAEs whose features are compared, and no others; by default all at the same site and at later
        ones. Each list has its own result.
    settings
        The edit, the text, and the number of random directions.
    opened, model, tokenizer, device
        As for ``analysis.steer_task``.
    replace, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    One result. Its table ``changes`` has a row for each feature that is active in a state: its mean
    and rate before and after over the tokens that the edit reaches, the 95% interval over
    documents, q, and the change under random directions of equal norm. ``saes`` has a row for
    each SAE, ``edited`` one for each edited feature, and ``map`` the positions of features in both states on one map.

    Raises
    ------
    BadInput
        If the features are not of one SAE, are never active in the text, an SAE in ``on`` is of
        another model or before the site, or the edit changes nothing or produces NaN.
    UnknownName, Mismatch, Missing
        As for ``analysis.steer_task``.

    Examples
    --------
    >>> from analysis import StateSettings, compare_states
    >>> settings = StateSettings(tokens=100, search=2000, draws=1, layout="none")
    >>> (result,) = compare_states("demo.atlas", ["tiny-a-l1-s0/7"], settings=settings)
    >>> result.kind
    'state_change'
    """
    own = features_by_sae(Folder.open(Path(atlas)).sound().saes, features)
    if len(own) != 1:
        raise BadInput(
            f"The features are of {len(own)} SAEs; expected one feature or more of one SAE, SAE/INDEX."
        )
    ((sae, indices),) = own.items()
    study = StateStudy(settings, tuple(indices), tuple(on), tuple(opened), model, tokenizer, device)
    return run_study(study, atlas, [sae], replace=replace, progress=progress)


@dataclass(frozen=True, eq=False)
class _Compared:
    """The changes of the features of one SAE, by the edit and by the controls."""

    sae: str
    own: Change
    controls: list[Change]
    overlap: float | None
    overlap_by_random: list[float | None]

    @classmethod
    def of(
        cls,
        sae: str,
        before: State,
        after: State,
        *,
        controls: Sequence[State],
        text: TextSample,
        at: np.ndarray[Any, Any],
        neighbours: int,
    ) -> "_Compared":
        rows = np.flatnonzero(at)
        document, first = text.document[rows], before.codes[sae][rows]

        def change(state: State) -> Change:
            return change_of(first, state.codes[sae][rows], document)

        def overlap(state: State) -> float | None:
            return neighbour_overlap(before.codes[sae], state.codes[sae], neighbours=neighbours)

        return cls(
            sae,
            change(after),
            [change(one) for one in controls],
            overlap(after),
            [overlap(one) for one in controls],
        )

    def summary(self, hook: str, reached: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Return the row of the SAE."""
        overlaps = [value for value in self.overlap_by_random if value is not None]
        by_random = moved_by_random(self.own, self.controls)
        return {
            "sae": self.sae,
            "moved": int(moved(self.own, self.controls).sum()),
            "moved_by_random": float(np.mean(by_random)),
            "moved_by_random_most": max(by_random),
            "features": int((self.own.rate_before + self.own.rate_after > 0).sum()),
            "site": hook,
            "tokens": len(reached),
            "reached": int(reached.sum()),
            "total_change": float(np.abs(self.own.change).sum()),
            "total_change_by_random": float(
                np.mean([np.abs(one.change).sum() for one in self.controls])
            ),
            "overlap": self.overlap,
            "overlap_by_random": float(np.mean(overlaps)) if overlaps else None,
        }


def _with_own(subject: Subject, saes: Sequence[Autoencoder]) -> list[Autoencoder]:
    """Return SAEs that are read: those that are compared, and the edited one."""
    return [subject.sae, *(sae for sae in saes if sae.info.name != subject.name)]


def _edited(
    sae: str,
    features: Sequence[int],
    before: State,
    after: State,
    text: TextSample,
    *,
    at: np.ndarray[Any, Any],
) -> list[dict[str, Any]]:
    """Return a row for each edited feature; its means are over the compared tokens."""
    changed = int((before.site != after.site).any(axis=1).sum())
    rows = []
    for feature in features:
        own = [state.codes[sae][:, [feature]].toarray()[:, 0] for state in (before, after)]
        means = [float(one[at].mean(dtype=np.float64)) for one in own]
        rows.append(
            {
                "feature": f"{sae}/{feature}",
                "active_tokens": int((own[0] > 0).sum()),
                "mean_before": means[0],
                "mean_after": means[1],
                "edited_tokens": changed,
                "searched": text.searched,
            }
        )
    return rows


def requested_tokens(settings: Mapping[str, Any]) -> int | None:
    """Return the tokens that are searched for contexts with the features; None if none are searched.

    Parameters
    ----------
    settings
        Stored settings of a result.
    """
    searches = settings["search"] > 0 and settings["edit"] in _OF_ACTIVE
    return int(settings["tokens"]) if searches else None


def _searches(settings: StateSettings) -> bool:
    return requested_tokens(vars(settings)) is not None


def _text(
    subject: Subject, features: Sequence[int], settings: StateSettings, progress: Progress
) -> TextSample:
    """Return the text that is compared: for edits of active features, contexts in which one is active."""
    if _searches(settings):
        return text_with_features(
            subject,
            features,
            tokens=settings.tokens,
            search=settings.search,
            seed=settings.seed,
            progress=progress,
        )
    return sampled_text(subject, settings.tokens, seed=settings.seed)


def _edit(subject: Subject, feature: int, settings: StateSettings) -> FeatureEdit:
    maximum = float(subject.maximum[feature])
    if settings.edit == "ablate":
        return ablate(feature)
    if settings.edit == "scale":
        return scale(feature, settings.times)
    if settings.edit == "clamp":
        return clamp(feature, settings.times, maximum=maximum)
    return add(feature, settings.times, maximum=maximum)


_CHANGES = pa.schema(
    [("sae", pa.string()), ("feature", pa.string()), ("edited", pa.bool_())]
    + [
        (name, pa.float64())
        for name in (
            "mean_before",
            "mean_after",
            "change",
            "low",
            "high",
            "rate_before",
            "rate_after",
            "q",
            "control_mean",
            "control_largest",
        )
    ]
    + [("moved", pa.bool_())]
)
_SAES = pa.schema(
    [
        ("sae", pa.string()),
        ("moved", pa.int64()),
        ("moved_by_random", pa.float64()),
        ("moved_by_random_most", pa.int64()),
        ("features", pa.int64()),
        ("site", pa.string()),
        ("tokens", pa.int64()),
        ("reached", pa.int64()),
    ]
    + [
        (name, pa.float64())
        for name in (
            "total_change",
            "total_change_by_random",
            "overlap",
            "overlap_by_random",
        )
    ]
)
_EDITED = pa.schema(
    [
        ("feature", pa.string()),
        ("active_tokens", pa.int64()),
        ("mean_before", pa.float64()),
        ("mean_after", pa.float64()),
        ("edited_tokens", pa.int64()),
        ("searched", pa.int64()),
    ]
)
_MAP = pa.schema(
    [("sae", pa.string()), ("feature", pa.string())]
    + [(name, pa.float64()) for name in ("x_before", "y_before", "x_after", "y_after")]
)
