"""The study of matches: the pairs of SAEs to match, and the match of two SAEs."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.disk.folder import Folder, Sound
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.settings import read_settings
from atlas.studies.study import Found, Task, TaskContext, check_saes
from ingest.match.inputs import open_side
from ingest.match.pipeline import VERSION, alignment, compare
from ingest.match.pooling import SIGNIFICANT
from ingest.match.settings import MatchSettings
from ingest.sae.autoencoder import Autoencoder
from ingest.text.corpus import Corpus
from ingest.torch_study import TorchStudy

__all__ = ["MatchStudy", "match_documents", "match_name", "match_saes"]


#: Denominators of the shares of the documents that a forecast is measured on.
_SAMPLES = (48, 16)

#: Draws that a forecast measures: on a small sample, the difference of one draw is mostly noise.
_MEASURED_DRAWS = 4


def match_name(a: str, b: str) -> str:
    """Return the name of the part that matches two SAEs: the sorted names joined by ``+``."""
    return "+".join(sorted((a, b)))


@dataclass(frozen=True)
class MatchStudy(TorchStudy):
    """Match every pair of some SAEs from their stored codes.

    Parameters
    ----------
    settings
        How they are matched.
    memory
        Bytes of memory, in addition to the lists of matches and the best correlations of
        the draws.
    stale
        Match only pairs whose match is stale, broken or of another version, each with its
        stored settings.
    opened
        SAEs that are already open, whose weights are not read again.
    """

    kind: ClassVar[str] = "match"
    version: ClassVar[int] = VERSION
    part_names: ClassVar[str] = "`a+b`, the names of both SAEs sorted"
    floor_values: ClassVar[Mapping[str, str]] = {
        "one_to_one": "Number of one-to-one matches",
        "beyond_token": "Number of matches beyond the token",
    }
    floor_sentence: ClassVar[str] = "{one_to_one:,} and {beyond_token:,}"
    sorted_pairs: ClassVar[bool] = True

    settings: MatchSettings
    memory: int = 4 * 2**30
    stale: bool = False
    opened: Sequence[Autoencoder] = ()

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """One pair is used if no SAE is named; with ``stale``, all stale pairs."""
        return 0 if self.stale else 2

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each pair."""
        if self.stale:
            return [_task(*pair, how) for pair, how in self._stale(at)]
        return [_task(a, b, self.settings) for a, b in _pairs(at.sound, saes, at.progress)]

    def check(self, tasks: Sequence[Task], at: TaskContext) -> None:
        """Check that the codes of every pair are complete and can be aligned."""
        for task in tasks:
            a, b = (open_side(at.folder, at.sound, name) for name in task.saes)
            alignment((a, b), task.settings)

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one pair, from matches on two samples of the documents.

        The cost is linear in the number of documents, with and without draws.
        """
        sides = (
            open_side(at.folder, at.sound, task.saes[0]),
            open_side(at.folder, at.sound, task.saes[1]),
        )
        corpus = Corpus.open(at.folder.corpus_file)
        documents = corpus.info.documents
        order = np.random.default_rng(0).permutation(documents)

        def seconds(number: int, draws: int) -> float:
            with TemporaryDirectory(dir=at.scratch) as scratch:
                return timed(
                    lambda: compare(
                        sides,
                        corpus,
                        replace(task.settings, draws=draws),
                        memory=self.memory,
                        scratch=Path(scratch),
                        documents=np.sort(order[:number]),
                        opened=self.opened,
                        progress=SILENT,
                    )
                )

        few, more = (max(1, documents // share) for share in _SAMPLES)
        draws = task.settings.draws
        measured = min(draws, _MEASURED_DRAWS)
        seconds(few, min(draws, 1))  # the first call compiles loops
        without = [seconds(few, 0), seconds(more, 0)]
        drawn = [seconds(few, measured), seconds(more, measured)] if measured else without
        each = [
            max(some - none, 0.0) / max(measured, 1)
            for some, none in zip(drawn, without, strict=True)
        ]
        total = [none + draws * one for none, one in zip(without, each, strict=True)]
        slope = max(0.0, total[1] - total[0]) / max(more - few, 1)
        size = 2 * sum(side.bytes for side in sides)
        return Cost(total[1] + slope * (documents - more), bytes=size)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Match one pair."""
        a, b = (open_side(at.folder, at.sound, name) for name in task.saes)
        return compare(
            (a, b),
            Corpus.open(at.folder.corpus_file),
            task.settings,
            memory=self.memory,
            scratch=at.scratch,
            opened=self.opened,
            progress=at.progress,
        )

    def result(self, part: Part) -> Result:
        """Return the properties of the edge COMPARED_WITH, and the exclusions by reason."""
        (row,) = part.table("COMPARED_WITH").to_pylist()
        summary = {"a": row.pop("source"), "b": row.pop("target"), **row}
        summary["excluded"] = dict(part.manifest.sources["left_out"])
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(summary),
            tables=(part.manifest.tables, part.table),
        )

    def complete(self, result: Result, at: TaskContext) -> None:
        """Add the number of active features of the first SAE to the verdict."""
        part = at.sound.parts.get(f"statistics/{result['a']}")
        if part is not None:
            dead = part.table("Feature")["dead"].to_pylist()
            result.verdict = tuple(_verdict(result.summary, active=dead.count(False)))

    def _stale(self, at: TaskContext) -> Iterator[tuple[tuple[str, str], MatchSettings]]:
        parts, broken = at.folder.all_parts()
        stored = {p.manifest.key: p.manifest for p in parts if p.manifest.kind == self.kind}
        older = {key for key, manifest in stored.items() if manifest.version != VERSION}
        for key in sorted({*at.sound.stale, *broken} | older):
            kind, _, name = key.partition("/")
            a, _, b = name.partition("+")
            if kind != self.kind or a not in at.sound.saes or b not in at.sound.saes:
                continue
            if _has_codes(at.sound, a, at.progress) and _has_codes(at.sound, b, at.progress):
                settings = stored[key].settings if key in stored else {}
                yield (a, b), read_settings(MatchSettings, settings) if settings else self.settings


def match_saes(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: MatchSettings = MatchSettings(),  # noqa: B008 - frozen
    memory: int = 4 * 2**30,
    stale: bool = False,
    replace: bool = False,
    reuse: bool = False,
    opened: Sequence[Autoencoder] = (),
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Match every pair of some SAEs of an atlas from their stored codes, without a model.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of two or more SAEs, or ``"all"``. Default: the first pair.
    settings, memory, stale, opened
        See ``MatchStudy``.
    replace
        Match again pairs that are stored with these settings.
    reuse
        Retain matches that are stored with other settings.
    workers, ray
        See ``atlas.studies.runner.run_study``.
    progress
        Notified of the work.

    Returns
    -------
    A result for each pair: the properties of its edge COMPARED_WITH, with ``a``, ``b`` and
    ``excluded``, the number of pairs, features or documents that were excluded, by reason.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If the codes of one are not stored.
    BadInput
        If there is nothing to match.

    Examples
    --------
    >>> from ingest import MatchSettings, match_saes
    >>> settings = MatchSettings(draws=3)
    >>> results = match_saes("demo.atlas", ["tiny-a-l1-s0", "tiny-a-l1-s1"], settings=settings)
    >>> results[0].name  # the matches with a floor follow
    'tiny-a-l1-s0+tiny-a-l1-s1'
    """
    study = MatchStudy(settings, memory, stale, tuple(opened))
    return run_study(
        study,
        atlas,
        saes,
        replace=replace,
        reuse=reuse,
        workers=workers,
        ray=ray,
        progress=progress,
    )


def match_documents(
    folder: Folder,
    sae_a: str,
    sae_b: str,
    *,
    documents: NDArray[np.int64],
    settings: MatchSettings = MatchSettings(),  # noqa: B008 - frozen
    brief: bool = False,
    memory: int = 4 * 2**30,
    progress: Progress = SILENT,
) -> pa.Table:
    """Match two SAEs of an atlas on some documents, without storing the result.

    Parameters
    ----------
    folder
        The atlas.
    sae_a, sae_b
        Names of the SAEs.
    documents
        Numbers of the documents.
    settings
        How they are matched.
    brief
        Omit the null within documents and the cosines, whose columns are then null.
    memory
        Bytes of memory, as in ``match_saes``.
    progress
        Notified of the work.

    Returns
    -------
    The table MATCHES of these documents. As in an atlas, the edges start at the SAE whose
    name sorts first.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If the codes of one are not stored.
    BadInput
        If both names are the same.
    """
    sound = folder.sound()
    (names,) = _pairs(sound, [sae_a, sae_b], progress)
    sides = (open_side(folder, sound, names[0]), open_side(folder, sound, names[1]))
    with TemporaryDirectory(prefix="match-") as scratch:
        found = compare(
            sides,
            Corpus.open(folder.corpus_file),
            settings,
            memory=memory,
            scratch=Path(scratch),
            documents=documents,
            brief=brief,
            progress=progress,
        )
    return dict(found.tables)["MATCHES"]


def _task(a: str, b: str, settings: MatchSettings) -> Task:
    return Task(
        match_name(a, b),
        (a, b),
        settings,
        made_from=tuple(f"{kind}/{name}" for name in (a, b) for kind in ("sae", "tokens")),
        reads=(f"codes/{a}", f"codes/{b}"),
    )


def _pairs(
    sound: Sound, saes: Sequence[str] | None, progress: Progress
) -> Iterator[tuple[str, str]]:
    names = sound.saes if saes is None else list(saes)
    unique = check_saes(sound, names)
    if len(unique) < len(names):
        twice = sorted(n for n in unique if names.count(n) > 1)[0]
        raise BadInput(
            f"{twice} is named twice, but an SAE is not matched with itself. Name two different SAEs."
        )
    if saes is None:
        names = [name for name in names if _has_codes(sound, name, progress)]
    if len(names) < 2:
        which = "SAEs whose codes are stored" if saes is None else "SAEs"
        raise BadInput(
            f"A match needs at least two {which}; there is {', '.join(names) or 'none'}."
        )
    for a, b in itertools.combinations(names, 2):
        yield min(a, b), max(a, b)


def _has_codes(sound: Sound, name: str, progress: Progress) -> bool:
    stored = f"codes/{name}" in sound.parts
    if not stored:
        progress.report(
            f"Skipped {name}: its codes are not stored. "
            f"To store them, run `atlas ingest --sae {name} --keep-codes --replace`."
        )
    return stored


def _verdict(row: Mapping[str, Any], *, active: int | None = None) -> list[str]:
    """Return the sentences on a pair; ``active`` is the number of active features of the first SAE."""
    of = "" if active is None else f" of {active:,} active"
    matched = f"{row['one_to_one']:,}{of} features of {row['a']} have a one-to-one counterpart in {row['b']}"
    if not row["draws"]:
        return [f"{matched}; no null was drawn."]
    beyond, undecided = row["beyond_token"], row["undecided"]
    chance = SIGNIFICANT * beyond
    by_chance = f"at most about {chance:.0f}" if chance >= 1 else "fewer than 1"
    guide = f" (as a guide, {by_chance} by chance)" if beyond else ""
    return [
        f"{matched}. {beyond:,} exceed what tokens and documents alone give, at a false discovery rate of "
        f"{SIGNIFICANT:.0%} over all pairs before filters{guide}; {undecided:,} are undecided."
    ]
