"""All runs of one SAE: every site, split and kind, in as few passes over the codes as memory allows."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.amounts import counted
from atlas.errors import OutOfSpace
from atlas.progress import SILENT, Progress, Stage
from ingest.error_translation import memory_errors
from ingest.probe.classifiers import bytes_of_fit, classifier, read_site
from ingest.probe.logistic_probe import ActiveProbe, Columns
from ingest.probe.part_tables import ProbeRun, edges
from ingest.probe.probe_data import Occurrences, ProbeData, training
from ingest.probe.ridge_probe import ActivationProbe
from ingest.probe.settings import Kind, ProbeSettings
from ingest.probe.site_design import SiteDesign

__all__ = ["CHUNK", "TODO", "ProbeResult", "probe_all", "probe_blocks"]

#: Largest number of features fitted at once: more would not use the cache better.
CHUNK = 512

#: Bytes that scoring needs for each row and feature, in addition to the solver.
SCORING = 64

#: Bytes of an occurrence while it is read and sorted.
ENTRY = 60


#: What to do if memory does not suffice.
TODO = "use a smaller `memory`, fewer `tokens`, fewer sites at once, or another device"


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """One run at one site: its table, and the reasons why features were excluded.

    ``left_out`` counts excluded features by reason. ``documents`` is the number of documents
    with a validation token. ``draws`` has the balanced accuracy of each feature in each draw
    of the bootstrap; None without intervals.
    """

    run: ProbeRun
    hook: str
    table: pa.Table
    left_out: dict[str, int]
    documents: int
    draws: pa.Table | None


@dataclass(eq=False)
class _Job:
    """A run at a site: the features that can be probed, and their scores so far."""

    run: ProbeRun
    site: SiteDesign
    probe: ActiveProbe | ActivationProbe
    probed: NDArray[np.bool_]
    left_out: dict[str, int]
    documents: int
    scores: list[Columns] = field(default_factory=list)
    features: list[NDArray[np.int64]] = field(default_factory=list)


def probe_all(
    data: ProbeData,
    sites: Sequence[SiteDesign],
    *,
    sae: str,
    model: str,
    settings: ProbeSettings,
    validated_on: tuple[str, str] | None,
    memory: int,
    progress: Progress,
) -> list[ProbeResult]:
    """Probe the features of an SAE at some sites, for every split and kind of the settings.

    Parameters
    ----------
    data
        The SAE's codes.
    sites
        The sites, with their vectors.
    sae, model
        Names of the SAE and of its model.
    settings
        How features are probed.
    validated_on
        Name and id of the second text of ``data``, if there is one.
    memory
        Bytes that may be used in addition to the vectors.
    progress
        Notified of the work.

    Raises
    ------
    BadInput
        If the text cannot be divided by a requested split.
    OutOfSpace
        If a single feature does not fit into memory.
    """
    requested = _requested(data.d_sae, settings)
    with memory_errors(f"the mean and covariance at {counted(len(sites), 'site')}", todo=TODO):
        jobs = list(_jobs(data, sites, settings, requested=requested, validated_on=validated_on))
    probed = np.flatnonzero(np.logical_or.reduce([job.probed for job in jobs]))
    room = min(site.design.free_bytes(memory) for site in sites)
    step = _block(data, sites, settings, memory=room)
    total = sum(np.count_nonzero(job.probed) for job in jobs)
    with progress.stage(f"Probing {sae}", total=float(total), unit="features") as stage:
        for chunk in _chunks(probed, data, memory):
            occurrences = data.occurrences(chunk, threshold=settings.threshold)
            for block in _blocks(chunk, occurrences, step):
                for job in jobs:
                    _probe(job, *block, stage=stage)
    return list(_results(jobs, sae=sae, model=model, settings=settings))


def probe_blocks(
    data: ProbeData,
    sites: Sequence[SiteDesign],
    *,
    settings: ProbeSettings,
    validated_on: tuple[str, str] | None,
) -> Callable[[int], object]:
    """Prepare the runs of ``probe_all``, and return a function that probes a number of features.

    The features of each call are drawn at random, from those that have enough tokens. It is for
    measuring the cost: results are not returned. Parameters are those of ``probe_all``.
    """
    requested = _requested(data.d_sae, settings)
    with memory_errors(f"the mean and covariance at {counted(len(sites), 'site')}", todo=TODO):
        jobs = list(_jobs(data, sites, settings, requested=requested, validated_on=validated_on))
    probed = np.flatnonzero(np.logical_or.reduce([job.probed for job in jobs]))

    def block(number: int) -> None:
        rng = np.random.default_rng(0)
        some = np.sort(rng.choice(probed, min(number, len(probed)), replace=False))
        occurrences = data.occurrences(some, threshold=settings.threshold)
        with SILENT.stage("") as stage:
            for job in jobs:
                _probe(job, some, occurrences, stage=stage)

    return block


def _requested(d_sae: int, settings: ProbeSettings) -> NDArray[np.bool_]:
    """Return the mask of requested features: all, or a random sample."""
    requested = np.ones(d_sae, dtype=np.bool_)
    if settings.features is not None and settings.features < d_sae:
        requested[:] = False
        rng = np.random.default_rng([settings.seed, 1])
        requested[rng.choice(d_sae, settings.features, replace=False)] = True
    return requested


def _jobs(
    data: ProbeData,
    sites: Sequence[SiteDesign],
    settings: ProbeSettings,
    *,
    requested: NDArray[np.bool_],
    validated_on: tuple[str, str] | None,
) -> Iterator[_Job]:
    """Yield every run at every site; runs by token id come first, since other runs use them."""
    splits = ["corpus"] if validated_on else sorted(settings.splits, key=lambda s: s != "type")
    read = {
        (site.hook, kind): read_site(site, kind, settings)
        for site in sites
        for kind in settings.kinds
    }
    for split in splits:
        how: Any = "document" if split == "corpus" else split
        train = training(data, how, share=settings.train_share, seed=settings.seed)
        all_tokens = np.ones(len(data), dtype=np.bool_)
        drawn = settings.draws_from_all(split)
        sides = [all_tokens] if drawn else [train, ~train]
        least = settings.min_positives
        if drawn:  # each class needs at least one sampled token and one remaining token
            share = settings.train_share
            least = max(least, math.ceil(1 / share), math.ceil(1 / (1 - share)))
        probed, left_out = _probed(data, sides, settings, requested=requested, least=least)
        documents = len(np.unique(data.document[sides[-1]]))
        for site in sites:
            for kind in settings.kinds:
                run = ProbeRun(split, kind, settings, *(validated_on or ()))
                probe: ActiveProbe | ActivationProbe
                if kind == "activation":
                    probe = ActivationProbe(site, data, train, settings=settings)
                else:
                    of = read[site.hook, kind]
                    by = classifier(kind, settings)
                    probe = ActiveProbe(of, data, train, settings=settings, split=split, by=by)
                yield _Job(run, site, probe, probed, left_out, documents)


def _probed(
    data: ProbeData,
    sides: Sequence[NDArray[np.bool_]],
    settings: ProbeSettings,
    *,
    requested: NDArray[np.bool_],
    least: int,
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which features have enough tokens of both classes on all sides; count the others."""
    active = data.positives(sides, threshold=settings.threshold)
    inactive = [np.count_nonzero(side) - on for side, on in zip(sides, active, strict=True)]
    never = requested & (np.sum(active, axis=0) == 0)
    few = requested & ~never & (np.min(active, axis=0) < least)
    always = requested & ~never & ~few & (np.min(inactive, axis=0) < least)
    above = f" above {settings.threshold:g}" if settings.threshold else ""
    on = " of a side" if len(sides) > 1 else ""
    return requested & ~(never | few | always), {
        f"never active{above}": int(np.count_nonzero(never)),
        f"active on fewer than {least} tokens{on}": int(np.count_nonzero(few)),
        f"inactive on fewer than {least} tokens{on}": int(np.count_nonzero(always)),
    }


def _block(
    data: ProbeData, sites: Sequence[SiteDesign], settings: ProbeSettings, *, memory: int
) -> int:
    """Return the number of features that fit into memory at once."""
    rows = max(site.design.rows for site in sites)
    if any(settings.draws_from_all(split) for split in settings.splits):
        # The validation counts of each key are then a dense table.
        rows = max(rows, int(data.bigram.max(initial=-1)) + 1)
    width = max(site.design.width for site in sites)

    def needed(labels: int) -> int:
        return (
            bytes_of_fit(rows, width, labels=labels, settings=settings)
            + SCORING * (rows + 2048) * labels
        )

    for labels in (CHUNK >> i for i in range(10)):
        if needed(labels) <= memory:
            return labels
    raise OutOfSpace(
        f"Probing one feature on {rows:,} vectors needs {needed(1) / 2**20:.1f} MiB, but only "
        f"{memory / 2**20:.1f} MiB are allowed or free: raise `memory`, or use fewer `tokens`."
    )


def _chunks(
    features: NDArray[np.int64], data: ProbeData, memory: int
) -> Iterator[NDArray[np.int64]]:
    """Yield groups of features whose occurrences fit into memory."""
    all_tokens = np.ones(len(data), dtype=np.bool_)
    (count,) = data.positives((all_tokens,), threshold=0.0)
    room = max(memory // ENTRY, int(count.max(initial=1)))
    number = np.cumsum(count[features]) // room
    for n in np.unique(number):
        yield features[number == n]


def _blocks(
    chunk: NDArray[np.int64], occurrences: Occurrences, step: int
) -> Iterator[tuple[NDArray[np.int64], Occurrences]]:
    for first in range(0, len(chunk), step):
        ends = np.searchsorted(occurrences.feature, [first, first + step])
        part = occurrences.take(slice(*ends))
        yield chunk[first : first + step], Occurrences(part.token, part.feature - first, part.value)


def _probe(
    job: _Job, features: NDArray[np.int64], occurrences: Occurrences, *, stage: Stage
) -> None:
    """Probe the features of a block that have enough tokens in this run."""
    chosen = job.probed[features]
    if not chosen.any():
        return
    number = np.cumsum(chosen) - 1
    active = occurrences.take(chosen[occurrences.feature])
    active = Occurrences(active.token, number[active.feature], active.value)
    needed = f"probing {int(chosen.sum())} features at once at {job.site.hook}"
    with memory_errors(needed, todo=TODO):
        job.scores.append(job.probe.columns(active, features[chosen]))
    job.features.append(features[chosen])
    stage.advance(float(chosen.sum()))


def _results(
    jobs: Sequence[_Job], *, sae: str, model: str, settings: ProbeSettings
) -> Iterator[ProbeResult]:
    by_type: dict[tuple[str, Kind], dict[int, bool]] = {}
    for job in jobs:
        features = np.concatenate([*job.features, np.zeros(0, dtype=np.int64)])
        key = job.site.hook, job.run.kind
        if job.run.split == "type" and job.run.weighs:
            low = np.concatenate([*(block["low"] for block in job.scores), np.zeros(0)])
            known = zip(features.tolist(), low.tolist(), strict=True)
            by_type[key] = {f: x >= settings.tau for f, x in known if x == x}
        own = job.run.split == "type" or not job.run.weighs
        table = edges(
            job.run,
            job.scores,
            sae=sae,
            site=f"{model}/{job.site.hook}",
            features=features,
            generalises=None if own else by_type.get(key),
        )
        drawn = _draws(job.scores, features)
        yield ProbeResult(job.run, job.site.hook, table, job.left_out, job.documents, drawn)


def _draws(columns: Sequence[Columns], features: NDArray[np.int64]) -> pa.Table | None:
    """Return the scores in each draw as a table with a row for each feature."""
    drawn = [block["draws"] for block in columns if "draws" in block]
    if not drawn or not drawn[0].shape[1]:
        return None
    scores = np.concatenate(drawn)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), scores.shape[1])
    return pa.table({"feature": features, "balanced_accuracy": lists.cast(pa.list_(pa.float32()))})
