"""All runs of one SAE: every place, split and kind, in as few looks at the codes as memory allows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.errors import OutOfRoom
from atlas.progress import Progress, Stage
from ingest.error_translation import memory_errors
from ingest.probe.logistic_probe import ActiveProbe, Columns
from ingest.probe.part_tables import Run, edges
from ingest.probe.probe_data import Occurrences, ProbeData
from ingest.probe.ridge_probe import ActivationProbe
from ingest.probe.settings import ProbeSettings
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.solve import bytes_needed
from ingest.probe.splits import training

__all__ = ["Result", "probe_all"]

#: Features fitted at once, at most: more would not use the cache better.
AT_ONCE = 512

#: Bytes that scoring takes for a row and a feature, beside the solver.
SCORING = 64

#: Bytes of an occurrence while it is read and sorted.
ENTRY = 60


@dataclass(frozen=True, eq=False)
class Result:
    """One run at one site: its table, and why features are not in it.

    ``left_out`` counts features by reason; ``all`` are those asked for. ``documents`` are those
    that have a token of validation. ``draws`` has the balanced accuracy of each feature in each
    draw of the bootstrap; None without intervals.
    """

    run: Run
    hook: str
    table: pa.Table
    left_out: dict[str, int]
    documents: int
    draws: pa.Table | None


@dataclass(eq=False)
class _Job:
    """A run at a place, with the features that can be probed in it, and what has been found."""

    run: Run
    place: SiteDesign
    probe: ActiveProbe | ActivationProbe
    probed: NDArray[np.bool_]
    left_out: dict[str, int]
    documents: int
    found: list[Columns] = field(default_factory=list)
    features: list[NDArray[np.int64]] = field(default_factory=list)


def probe_all(
    kept: ProbeData,
    places: Sequence[SiteDesign],
    *,
    sae: str,
    model: str,
    settings: ProbeSettings,
    validated_on: tuple[str, str] | None,
    memory: int,
    progress: Progress,
) -> list[Result]:
    """Probe the features of an SAE at some places, by every split and kind of the settings.

    Parameters
    ----------
    kept
        Its codes.
    places
        The places, with their vectors.
    sae, model
        Names of the SAE and of its model.
    settings
        How it is done.
    validated_on
        Name and id of the second text of ``kept``, if there is one.
    memory
        Bytes that may be held beside the vectors.
    progress
        Told how far it is.

    Raises
    ------
    BadInput
        If the text cannot be divided as was asked.
    OutOfRoom
        If a single feature does not fit into memory.
    """
    asked = _asked(kept.d_sae, settings)
    jobs = list(_jobs(kept, places, settings, asked=asked, validated_on=validated_on))
    wanted = np.flatnonzero(np.logical_or.reduce([job.probed for job in jobs]))
    step = _block(kept, places, settings, memory=memory)
    total = sum(np.count_nonzero(job.probed) for job in jobs)
    with progress.stage(f"Probing {sae}", total=float(total), unit="features") as stage:
        for chunk in _chunks(wanted, kept, memory):
            occurrences = kept.occurrences(chunk, threshold=settings.threshold)
            for block in _blocks(chunk, occurrences, step):
                for job in jobs:
                    _probe(job, *block, stage=stage)
    return list(_results(jobs, sae=sae, model=model, settings=settings))


def _asked(d_sae: int, settings: ProbeSettings) -> NDArray[np.bool_]:
    """Return which features are asked for."""
    asked = np.ones(d_sae, dtype=np.bool_)
    if settings.features is not None and settings.features < d_sae:
        asked[:] = False
        rng = np.random.default_rng([settings.seed, 1])
        asked[rng.choice(d_sae, settings.features, replace=False)] = True
    return asked


def _jobs(
    kept: ProbeData,
    places: Sequence[SiteDesign],
    settings: ProbeSettings,
    *,
    asked: NDArray[np.bool_],
    validated_on: tuple[str, str] | None,
) -> Iterator[_Job]:
    """Yield every run at every place; those by token id first, since other runs refer to them."""
    splits = ["corpus"] if validated_on else sorted(settings.splits, key=lambda s: s != "type")
    for split in splits:
        how: Any = "document" if split == "corpus" else split
        train = training(kept, how, share=settings.train_share, seed=settings.seed)
        every = np.ones(len(kept), dtype=np.bool_)
        drawn = settings.draws_from_all(split)
        sides = [every] if drawn else [train, ~train]
        least = settings.min_positives
        if drawn:  # one token at least is drawn of each class, and one is left
            share = settings.train_share
            least = max(least, math.ceil(1 / share), math.ceil(1 / (1 - share)))
        probed, left_out = _probed(kept, sides, settings, asked=asked, least=least)
        documents = len(np.unique(kept.document[sides[-1]]))
        for place in places:
            for kind in settings.kinds:
                run = Run(split, kind, settings, *(validated_on or ()))
                probe: ActiveProbe | ActivationProbe
                if kind == "active":
                    probe = ActiveProbe(place, kept, train, settings=settings, split=split)
                else:
                    probe = ActivationProbe(place, kept, train, settings=settings)
                yield _Job(run, place, probe, probed, left_out, documents)


def _probed(
    kept: ProbeData,
    sides: Sequence[NDArray[np.bool_]],
    settings: ProbeSettings,
    *,
    asked: NDArray[np.bool_],
    least: int,
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which features have enough tokens of both kinds on all sides, and why others have not."""
    active = kept.positives(sides, threshold=settings.threshold)
    inactive = [np.count_nonzero(side) - on for side, on in zip(sides, active, strict=True)]
    never = asked & (np.sum(active, axis=0) == 0)
    few = asked & ~never & (np.min(active, axis=0) < least)
    always = asked & ~never & ~few & (np.min(inactive, axis=0) < least)
    above = f" above {settings.threshold:g}" if settings.threshold else ""
    on = " of a side" if len(sides) > 1 else ""
    return asked & ~(never | few | always), {
        f"never active{above}": int(np.count_nonzero(never)),
        f"active on fewer than {least} tokens{on}": int(np.count_nonzero(few)),
        f"inactive on fewer than {least} tokens{on}": int(np.count_nonzero(always)),
    }


def _block(
    kept: ProbeData, places: Sequence[SiteDesign], settings: ProbeSettings, *, memory: int
) -> int:
    """Return how many features fit into memory at once."""
    rows = max(place.design.rows for place in places)
    if any(settings.draws_from_all(split) for split in settings.splits):
        # What is left of each key to validate on is then a table of its own.
        rows = max(rows, int(kept.bigram.max(initial=-1)) + 1)
    width = max(place.design.width for place in places)

    def needed(labels: int) -> int:
        return bytes_needed(rows, width, labels=labels) + SCORING * (rows + 2048) * labels

    for labels in (AT_ONCE >> i for i in range(10)):
        if needed(labels) <= memory:
            return labels
    raise OutOfRoom(
        f"To probe one feature on {rows:,} vectors takes {needed(1) / 2**20:.1f} MiB, and "
        f"{memory / 2**20:.1f} MiB were given: raise --memory, or take fewer --tokens."
    )


def _chunks(wanted: NDArray[np.int64], kept: ProbeData, memory: int) -> Iterator[NDArray[np.int64]]:
    """Yield features whose occurrences fit into memory together."""
    every = np.ones(len(kept), dtype=np.bool_)
    (count,) = kept.positives((every,), threshold=0.0)
    room = max(memory // ENTRY, int(count.max(initial=1)))
    number = np.cumsum(count[wanted]) // room
    for n in np.unique(number):
        yield wanted[number == n]


def _blocks(
    chunk: NDArray[np.int64], occurrences: Occurrences, step: int
) -> Iterator[tuple[NDArray[np.int64], Occurrences]]:
    for first in range(0, len(chunk), step):
        ends = np.searchsorted(occurrences.feature, [first, first + step])
        few = occurrences.take(slice(*ends))
        yield chunk[first : first + step], Occurrences(few.token, few.feature - first, few.value)


def _probe(
    job: _Job, features: NDArray[np.int64], occurrences: Occurrences, *, stage: Stage
) -> None:
    """Probe those features of a block that have enough tokens in this run."""
    chosen = job.probed[features]
    if not chosen.any():
        return
    number = np.cumsum(chosen) - 1
    some = occurrences.take(chosen[occurrences.feature])
    some = Occurrences(some.token, number[some.feature], some.value)
    with memory_errors(f"probing {int(chosen.sum())} features at once at {job.place.hook}"):
        job.found.append(job.probe.columns(some, features[chosen]))
    job.features.append(features[chosen])
    stage.advance(float(chosen.sum()))


def _results(
    jobs: Sequence[_Job], *, sae: str, model: str, settings: ProbeSettings
) -> Iterator[Result]:
    by_type: dict[str, dict[int, bool]] = {}
    for job in jobs:
        features = np.concatenate([*job.features, np.zeros(0, dtype=np.int64)])
        if job.run.split == "type" and job.run.kind == "active":
            low = np.concatenate([*(block["low"] for block in job.found), np.zeros(0)])
            known = zip(features.tolist(), low.tolist(), strict=True)
            by_type[job.place.hook] = {f: x >= settings.tau for f, x in known if x == x}
        own = job.run.split == "type" or job.run.kind != "active"
        table = edges(
            job.run, job.found, sae=sae, site=f"{model}/{job.place.hook}", features=features,
            generalises=None if own else by_type.get(job.place.hook),
        )  # fmt: skip
        drawn = _draws(job.found, features)
        yield Result(job.run, job.place.hook, table, job.left_out, job.documents, drawn)


def _draws(found: Sequence[Columns], features: NDArray[np.int64]) -> pa.Table | None:
    """Return the scores in each draw as a table, a row a feature."""
    drawn = [block["draws"] for block in found if "draws" in block]
    if not drawn or not drawn[0].shape[1]:
        return None
    scores = np.concatenate(drawn)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), scores.shape[1])
    return pa.table({"feature": features, "balanced_accuracy": lists.cast(pa.list_(pa.float32()))})
