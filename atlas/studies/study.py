"""The protocol of studies: what a study defines, and what its runner passes to it.

A study is a class with a ``kind``, a ``version``, settings and three methods: ``tasks`` names the
SAEs, pairs or sites, ``run`` computes one task, and ``result`` reads a part.
``atlas.studies.runner.run_study`` does the rest.
"""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from atlas.amounts import listed
from atlas.disk.folder import Folder, Sound
from atlas.disk.parts import Part
from atlas.errors import AtlasError, BadInput, Missing, RequestError, UnknownName
from atlas.plugins import computing_command, feature_command
from atlas.progress import Progress
from atlas.studies.forecast import Cost
from atlas.studies.results import Result
from atlas.studies.settings import DefaultNumber, declared_settings

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.api import Atlas

__all__ = [
    "Found",
    "Study",
    "Task",
    "TaskContext",
    "check_inputs",
    "check_saes",
    "other_settings",
    "selected_saes",
    "usable_saes",
]

#: Changed settings that a message names, and characters of a value.
_NAMED, _SHORT = 3, 40


@dataclass(frozen=True)
class Task:
    """One task of a study, whose result is one part.

    Parameters
    ----------
    name
        Name of the part.
    saes
        SAEs that the part describes.
    settings
        Settings of this task.
    made_from
        Keys of its input parts, ``kind/name``; the result is stale once one changes.
    reads
        Keys of further input parts, such as codes, that may be removed later.
    recorded
        Values that the manifest stores in addition to the settings.
    omitted
        Names of settings that the manifest does not store.
    group
        Tasks of one group are computed together.
    label
        Name of the task in messages; by default its one or two SAEs, or its name.
    """

    name: str
    saes: tuple[str, ...]
    settings: Any
    made_from: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    recorded: Mapping[str, Any] = field(default_factory=dict)
    omitted: tuple[str, ...] = ()
    group: str = ""
    label: str = ""

    @property
    def stored_settings(self) -> dict[str, Any]:
        """The settings as the manifest stores them."""
        stored = asdict(self.settings)
        return {k: v for k, v in stored.items() if k not in self.omitted} | dict(self.recorded)

    @property
    def title(self) -> str:
        """Name of the task in messages."""
        if self.label:
            return self.label
        return " and ".join(self.saes) if 0 < len(self.saes) <= 2 else self.name


@dataclass(frozen=True)
class Found:
    """The result of a task: the tables of its part, and further entries of the manifest."""

    tables: "Iterable[tuple[str, pa.Table]]"
    sources: Mapping[str, Any] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    made_from: tuple[str, ...] = ()
    """Keys of parts that the task itself wrote; the result is stale once one changes."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """How the numbers were computed, such as the precision of products; not part of the hash."""


class TaskContext:
    """The environment of a task: the atlas, a scratch folder and the progress.

    Parameters
    ----------
    folder
        The folder of the atlas; None if the atlas is on a server.
    sound
        Sound parts of the atlas; none on a server.
    scratch
        An empty folder, removed at the end.
    progress
        Reports progress.
    server
        The open atlas, if it is on a server; only studies with an optional part support it.
    obstacle
        Reason why results cannot be stored, as a clause; None if they can.
    """

    def __init__(
        self,
        folder: Folder | None,
        sound: Sound,
        scratch: Path,
        progress: Progress,
        *,
        server: "Atlas | None" = None,
        obstacle: str | None = None,
    ) -> None:
        self._folder = folder
        self.sound = sound
        self.scratch = scratch
        self.progress = progress
        self.obstacle = obstacle
        self._server = server

    @property
    def on_server(self) -> bool:
        """Whether the atlas is on a server, which stores no parts and no codes."""
        return self._folder is None

    @property
    def folder(self) -> Folder:
        """The folder of the atlas.

        Raises
        ------
        RequestError
            If the atlas is on a server.
        """
        if self._folder is None:
            raise RequestError(
                f"{self.atlas.url} is a server; select the folder of the atlas instead."
            )
        return self._folder

    @property
    def url(self) -> str:
        """Path of the folder of the atlas, or URL of its server."""
        return self.atlas.url if self._folder is None else str(self._folder.path)

    @cached_property
    def atlas(self) -> "Atlas":
        """The atlas, open for reading tables, in a folder or on a server."""
        from atlas.api import Atlas

        if self._server is not None:
            return self._server
        return Atlas(str(self.folder.path), folder=self.folder, progress=self.progress)


class Study(ABC):
    """Base class of studies: defines the tasks, computes one, and interprets its result."""

    kind: ClassVar[str]
    """Kind of the parts that store its results."""
    command: ClassVar[str] = ""
    """Name of its command, if it is not its kind; messages about the work have this name."""
    version: ClassVar[int]
    """Version of the computation; increase it when the same inputs give other tables."""
    part_names: ClassVar[str] = ""
    """How its parts are named, in Markdown; by their SAE, if empty."""
    tables: ClassVar[Mapping[str, str]] = {}
    """Content of each table of a part, for the page on the format.

    A name may end in ``*``. Tables of the graph that the schema assigns to this kind need no entry.
    """
    optional_part: ClassVar[bool] = False
    """Whether results are also returned where they cannot be stored.

    Results cannot be stored on a server, in a folder that another process writes, and in a
    read-only folder.
    """

    resumes: ClassVar[bool] = False
    """Whether ``run`` skips the steps that are stored, so that it also runs for a stored part."""

    forecasts: ClassVar[int] = 1
    """Number of groups whose cost is measured even if that takes long; more where groups differ."""

    names_floors: ClassVar[bool] = False
    """Whether the verdict of a floor names it as one; otherwise the runner adds a sentence."""

    floor_values: ClassVar[Mapping[str, str]] = {}
    """Numbers of the summary that the verdict compares with floors, and their names in a sentence."""

    floor_sentence: ClassVar[str] = ""
    """Format of all these numbers of a floor, such as ``{count:,}``, if one sentence is to state them."""

    needs_floors: ClassVar[bool] = False
    """Whether the verdict states that there is no floor to compare, because other nulls are weak."""

    sorted_pairs: ClassVar[bool] = False
    """Whether the name of a part sorts the names of its pair, so that a+b and b+a are one result."""

    codes_removable: ClassVar[bool] = False
    """Whether a part that records ``codes: true`` stays current after the codes are removed."""

    @contextmanager
    def opening(self, path: Path) -> Iterator[Folder]:
        """Open the atlas and hold its write lock.

        A study that can create an atlas overrides this.
        """
        folder = Folder.open(path)
        with folder.writing():
            yield folder

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """Number of SAEs that are used if none is named: one, a pair, or 0 if none is selected.

        With 0, ``tasks`` receives None, and uses all SAEs, such as the floors of a family, or raises an error.
        """
        return 1

    @abstractmethod
    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> Sequence[Task]:
        """Return the tasks: one for each part.

        Parameters
        ----------
        at
            The atlas.
        saes
            Names of SAEs; all that can be used, if None.
        """

    def check(self, tasks: Sequence[Task], at: TaskContext) -> None:  # noqa: B027 - optional
        """Check the inputs before any computation.

        Parameters
        ----------
        tasks
            The tasks that will be computed; none if all are stored.
        at
            The atlas.
        """

    @property
    def floors(self) -> Literal["all", "first", "none"]:
        """Of which SAEs of a task the floors are compared.

        ``first``: of the measured SAE only, since the others are its targets. ``none``: a feature of
        a floor is not the feature of the same index, so a study of single features has no floor.
        """
        return "all"

    def unavailable(self, tasks: Sequence[Task], at: TaskContext) -> Mapping[str, AtlasError]:
        """Return the tasks that cannot be computed, by name, with the reason.

        If no SAE was named, these tasks are skipped. Otherwise their computation raises the error.

        Parameters
        ----------
        tasks
            The tasks that would be computed.
        at
            The atlas.
        """
        return {}

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Set the environment in which the forecast and the tasks are computed.

        ``ingest.torch_study.TorchStudy`` fixes the precision of products.
        """
        yield

    def arithmetic(self) -> Mapping[str, str]:
        """Return how numbers are computed, read inside ``computing``; parts record it."""
        return {}

    def release(self) -> None:  # noqa: B027 - optional
        """Release what the forecast opened, since workers open it themselves."""

    def needs_gpu(self, *, available: bool) -> bool:
        """Return whether a worker needs a GPU of its own.

        Parameters
        ----------
        available
            Whether the machines of the workers have one.
        """
        return False

    def on_assigned_gpu(self) -> Self:
        """Return the study for a worker that sees only the GPU that Ray assigned to it."""
        return self

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute one task."""
        raise NotImplementedError(f"The study {self.kind} has neither run nor run_group.")

    def groups(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Return the tasks in groups that are computed together, such as by one run of a model."""
        groups: dict[str, list[Task]] = {}
        for task in tasks:
            groups.setdefault(task.group or task.name, []).append(task)
        return list(groups.values())

    def run_group(self, tasks: Sequence[Task], at: TaskContext) -> "Iterator[tuple[Task, Found]]":
        """Compute the tasks of a group; each is stored as soon as it is yielded."""
        for task in tasks:
            yield task, self.run(task, at)

    def forecast(self, task: Task, at: TaskContext) -> Cost | None:
        """Return the cost of a task, measured on a sample of its work; None for no forecast.

        A forecast takes less than a second, or less than 5% of the work.
        """
        return None

    def forecast_group(self, tasks: Sequence[Task], at: TaskContext) -> list[Cost] | None:
        """Return the cost of each task of a group, in the order in which tasks finish.

        A study whose tasks share work overrides this: the shared work belongs to the task
        that finishes first after it.
        """
        costs = []
        for task in tasks:
            cost = self.forecast(task, at)
            if cost is None:
                return None
            costs.append(cost)
        return costs

    @abstractmethod
    def result(self, part: Part) -> Result:
        """Return the result that a part stores."""

    def complete(self, result: Result, at: TaskContext) -> None:  # noqa: B027 - optional
        """Add to a result what its part does not store, such as the size of its SAEs."""

    def is_current(self, part: Part, task: Task) -> bool:
        """Return whether a sound part is what the task would compute, except for draws that were not passed."""
        stored = part.manifest
        if self.codes_removable and stored.settings.get("codes"):
            task = replace(task, recorded={**task.recorded, "codes": True})
        return (
            stored.version == self.version
            and dict(stored.settings)
            == _as_json(task.stored_settings) | self.other_draws(part, task)
            and set(stored.made_from) == set(task.made_from)
        )

    def other_draws(self, part: Part, task: Task) -> dict[str, int]:
        """Return the numbers of draws of a part that differ from the default, where none was passed.

        A run with the defaults reads such a part. Numbers of draws that were passed, also if they
        equal the default, are computed as requested. A part without draws is not read, because it
        has no control. A number of draws is a setting that ``--full`` changes.

        Returns
        -------
        The stored numbers, by name of the setting.
        """
        stored, settings = part.manifest.settings, task.settings
        return {
            one.name: stored[one.name]
            for one in declared_settings(type(settings))
            if one.paper is not None
            and one.name not in task.recorded
            and isinstance(getattr(settings, one.name), DefaultNumber)
            and one.accepts(stored.get(one.name))
            and stored[one.name] not in (0, one.default)
        }

    def difference(self, part: Part, task: Task) -> str:
        """Describe how a sound part differs from what the task would compute, for a message."""
        stored, now = dict(part.manifest.settings), _as_json(task.stored_settings)
        return other_settings(stored, now, "now") or "other inputs"


def other_settings(stored: Mapping[str, Any], other: Mapping[str, Any], word: str) -> str:
    """Describe how stored settings differ from others, for a message; empty if they are equal.

    Parameters
    ----------
    stored, other
        Settings by name, as manifests store them.
    word
        What precedes the values of the others.

    Examples
    --------
    >>> other_settings({"draws": 10, "seed": 0}, {"draws": 20, "seed": 0}, "now")
    'other settings (draws 10, now 20)'
    """
    changed = [
        f"{name} {_short(stored.get(name))}, {word} {_short(other.get(name))}"
        for name in sorted(stored.keys() | other.keys())
        if stored.get(name) != other.get(name)
    ]
    return f"other settings ({listed(changed, _NAMED, separator='; ')})" if changed else ""


def _short(value: Any) -> str:
    """Shorten a value for a message."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if not text:
        return "none"
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def check_saes(atlas: "Sound | Atlas", saes: Sequence[str]) -> list[str]:
    """Return names of SAEs of an atlas, or of its sound parts, without repetitions.

    A text stands for one name.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    """
    saes = [saes] if isinstance(saes, str) else saes
    for name in saes:
        if name not in atlas.saes:
            hint = "`atlas list` shows them."
            if name.rpartition("/")[0] in atlas.saes:
                feature = shlex.quote(name)
                hint = f"It is a feature, and an SAE is expected; `atlas show {feature}` shows the feature."
                if command := feature_command():
                    hint = f"It is a feature, and an SAE is expected; for a feature: `{command} {feature}`."
            raise UnknownName("SAE", name, known=atlas.saes, hint=hint)
    return list(dict.fromkeys(saes))


def check_inputs(keys: Iterable[str], sound: Sound, *, what: str) -> None:
    """Check that parts are stored and sound.

    Raises
    ------
    Missing
        If a part is missing; the message names the command that computes it.
    """
    for key in keys:
        if key not in sound.parts:
            kind, _, name = key.partition("/")
            state = f"stale ({sound.stale[key]})" if key in sound.stale else "missing"
            which = "are" if kind.endswith("s") else "is"
            raise Missing(
                f"{what} needs the {kind} of {name}, which {which} {state}; {_remedy(kind)}."
            )


def usable_saes(
    sound: Sound, kinds: Sequence[str], *, what: str, progress: Progress
) -> Iterator[str]:
    """Yield the SAEs that have parts of all these kinds; report skipped SAEs.

    Raises
    ------
    BadInput
        If no SAE has them.
    """
    if not sound.saes:
        raise BadInput("This atlas has no SAE; `atlas ingest` adds one.")
    any_usable = False
    for name in sound.saes:
        missing = [kind for kind in kinds if f"{kind}/{name}" not in sound.parts]
        if missing:
            progress.report(
                f"Skipped {name}: it has no {' and no '.join(missing)}; {_remedy(missing[0])}."
            )
        else:
            any_usable = True
            yield name
    if not any_usable:
        raise BadInput(f"{what} needs an SAE with {' and '.join(kinds)}; this atlas has none.")


def selected_saes(
    at: TaskContext,
    saes: Sequence[str] | None,
    kinds: Sequence[str],
    *,
    what: str,
    one_site: bool = False,
) -> list[str]:
    """Return the selected SAEs after a check, or, if None, all that have parts of some kinds.

    Parameters
    ----------
    at
        The atlas.
    saes
        Names of SAEs; all if None.
    kinds
        Kinds of parts that an SAE needs to be selected without its name.
    what
        What needs them, as the subject of a message.
    one_site
        Skip transcoders, unless they are named.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    BadInput
        If no name is passed, and the atlas has no SAE of this kind.
    """
    if saes is not None:
        return check_saes(at.sound, saes)
    names = list(usable_saes(at.sound, kinds, what=what, progress=at.progress))
    return _without_transcoders(names, at, what=what) if one_site else names


def _without_transcoders(names: Sequence[str], at: TaskContext, *, what: str) -> list[str]:
    """Return the SAEs that reconstruct the site they read; report the others."""
    found = []
    for name in names:
        (row,) = at.sound.parts[f"sae/{name}"].table("SAE").to_pylist()
        if row.get("output_hook"):
            at.progress.report(f"Skipped {name}: it is a transcoder.")
        else:
            found.append(name)
    if not found:
        raise BadInput(
            f"{what} needs an SAE that reconstructs the site it reads; this atlas has transcoders alone."
        )
    return found


def _remedy(kind: str) -> str:
    """Return how a missing part of a kind is computed, as a clause."""
    if kind == "codes":
        return "`atlas ingest --keep-codes --replace` stores them"
    return f"`{computing_command(kind) or 'atlas ingest --replace'}` computes it"


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as read from a manifest, with tuples as lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
