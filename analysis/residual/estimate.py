"""Forecast of a residual study: all its steps on two small samples of text, extrapolated to the complete text."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from analysis.residual.activations import Activations
from analysis.residual.evaluate import all_pairs
from analysis.residual.fit import Fitted, draw_components, fit_all
from analysis.residual.split import Divided
from analysis.residual.study_context import StudyContext
from analysis.residual.train import Arm, Trained, all_arms, read_inputs, train
from analysis.residual.train_arms import is_trained, metadata_of, write_sae
from atlas.amounts import counted
from atlas.progress import SILENT, duration
from atlas.studies.forecast import Cost, timed
from atlas.studies.runner import run_study
from ingest.device_timing import timed_on
from ingest.forward.run import ingest
from ingest.match.study import MatchStudy
from ingest.probe.study import ProbeStudy
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.corpus import Corpus
from ingest.text.tokenization import tokenize

__all__ = ["Stages", "extrapolated", "measure_stages"]

#: Characters of the smaller sample, and its largest share of the text of the atlas.
FEW, SHARE = 2**14, 1 / 16

#: The larger sample, relative to the smaller; least documents of the smaller one.
GROWTH, DOCUMENTS = 4, 16

#: Steps of three trainings: the first is not timed, and the others differ by the steps alone.
STEPS = (2, 2, 8)

#: SAEs of the sample.
NAMES = ("sample-0", "sample-1")


@dataclass(frozen=True)
class Stages:
    """Seconds of the remaining stages of a study.

    Parameters
    ----------
    activations
        Two runs of the model, the map, and the components.
    training
        Training steps of all SAEs.
    ingest, probes, matches
        Evaluation of all SAEs on the text of the atlas.
    """

    activations: float
    training: float
    ingest: float
    probes: float
    matches: float

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return self.activations + self.training + self.ingest + self.probes + self.matches


@dataclass(frozen=True)
class _Sample:
    """Documents of a text, and what they cost: characters, and seconds of the stages for two SAEs."""

    size: int
    map: float
    components: float
    read: float
    ingest: float
    probes: float
    matches: float


@dataclass(frozen=True)
class _Remaining:
    """Numbers of SAEs and pairs that remain to be trained, ingested, probed and matched."""

    trained: int
    ingested: int
    probed: int
    matched: int


def extrapolated(sizes: Sequence[float], seconds: Sequence[float], size: float) -> float:
    """Return the seconds for a size, by a line through two measurements that falls nowhere.

    Parameters
    ----------
    sizes, seconds
        Two measurements, the smaller size first.
    size
        The size of the complete work.

    Examples
    --------
    >>> extrapolated([10, 40], [2.0, 5.0], 100)
    11.0
    >>> extrapolated([10, 40], [2.0, 1.0], 100)  # noise: a constant
    1.5
    """
    slope = (seconds[1] - seconds[0]) / (sizes[1] - sizes[0])
    if slope <= 0:
        return sum(seconds) / 2
    fixed = seconds[0] - slope * sizes[0]
    if fixed < 0:  # at most proportional to the size
        fixed, slope = 0.0, seconds[1] / sizes[1]
    return fixed + slope * size


def measure_stages(study: StudyContext, divided: Divided) -> tuple[Stages, Cost]:
    """Measure all stages of a study on samples, report their seconds, and return them with the cost.

    Two SAEs are trained for a few steps on real activations, ingested, probed and matched in a
    temporary atlas of the first documents of the text, and of four times as many.

    Parameters
    ----------
    study
        The study.
    divided
        Its text after the split.
    """
    corpus = Corpus.open(study.folder.corpus_file)
    few = min(FEW, max(int(corpus.info.characters * SHARE), 1))
    remaining = _remaining(study)
    with _scratch(study) as scratch:
        samples, step = _samples(study, _texts(corpus, few), few=few, scratch=scratch)
    passes = _pass_time(study, divided)
    tokens = divided.tokens["map"] + divided.tokens["training"]
    fitted_on = divided.corpora["map"].info.characters
    trained_on = divided.corpora["training"].info.characters

    def at(name: str, size: float) -> float:
        sizes, seconds = [s.size for s in samples], [getattr(s, name) for s in samples]
        return extrapolated(sizes, seconds, size)

    steps = study.settings.steps(divided.tokens["training"])
    batch = min(study.settings.batch, divided.tokens["training"])
    size = corpus.info.characters
    model = passes * size / _characters(divided)
    ingest = max(at("ingest", size) - model, 0.0) / len(NAMES)
    any_trained, any_ingested = remaining.trained > 0, remaining.ingested > 0
    stages = Stages(
        any_trained
        * (
            passes * tokens
            + at("map", fitted_on)
            + at("components", trained_on)
            + at("read", trained_on) * remaining.trained / len(NAMES)
        ),
        step * batch * steps * remaining.trained,
        any_ingested * model + ingest * remaining.ingested,
        at("probes", size) * remaining.probed / len(NAMES),
        at("matches", size) * remaining.matched,
    )
    study.progress.report(_sentence(study, stages, remaining, steps=steps))
    return stages, Cost(stages.total, _bytes(study))


def _sentence(study: StudyContext, stages: Stages, remaining: _Remaining, *, steps: int) -> str:
    settings = study.settings
    features = settings.features(study.reader.model.site(settings.target).width)
    parts = []
    if remaining.trained:
        parts += [
            f"activations and map {duration(stages.activations)}",
            f"training of {counted(remaining.trained, 'SAE')} of {features:,} features, "
            f"{counted(steps, 'step')} each, {duration(stages.training)}",
        ]
    if remaining.ingested:
        parts.append(f"ingest of {counted(remaining.ingested, 'SAE')} {duration(stages.ingest)}")
    if remaining.probed:
        parts.append(f"probes from {settings.source} {duration(stages.probes)}")
    if remaining.matched:
        parts.append(f"{counted(remaining.matched, 'matched pair')} {duration(stages.matches)}")
    if not parts:
        return "Forecast: all steps are stored."
    return f"Forecast: {', '.join(parts)}."


def _remaining(study: StudyContext) -> _Remaining:
    """Return what remains: parts that an interrupted study has stored are not counted."""
    arms = {study.sae_name(arm): (arm, None) for arm in all_arms(study.settings)}
    stored = {} if study.replace else study.folder.sound().parts
    pairs = [] if study.match is None else all_pairs(arms)
    probed = {
        name
        for part in stored.values()
        if part.manifest.kind == "probe"
        for name in part.manifest.saes
    }
    return _Remaining(
        sum(not is_trained(study, arm) for arm, _ in arms.values()),
        sum(f"sae/{name}" not in stored for name in arms),
        sum(name not in probed for name in arms),
        sum(f"match/{'+'.join(sorted(pair))}" not in stored for pair in pairs),
    )


def _texts(corpus: Corpus, few: int) -> list[str]:
    """Return the first documents, cut so that the smaller sample has several."""
    longest = max(few // DOCUMENTS, 1)
    found: list[str] = []
    size = 0
    for number in range(len(corpus)):
        for document in corpus.block(number):
            found.append(document.text[:longest])
            size += len(found[-1])
            if size >= GROWTH * few:
                return found
    return found


def _first(texts: Sequence[str], size: int) -> list[str]:
    """Return the first documents that have this many characters together."""
    ends = np.cumsum([len(text) for text in texts])
    return list(texts[: int(np.searchsorted(ends, size)) + 1])


@contextmanager
def _scratch(study: StudyContext) -> Iterator[Path]:
    folder = study.scratch / "forecast"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _samples(
    study: StudyContext, texts: Sequence[str], *, few: int, scratch: Path
) -> tuple[list[_Sample], float]:
    """Return the costs of both samples, and the seconds of a token in a training step."""
    found: list[_Sample] = []
    trained: list[Path] = []
    step = 0.0
    for number, size in enumerate((few, few, GROWTH * few)):
        folder = scratch / str(number)
        folder.mkdir()
        documents = _first(texts, size)
        known = _activations(study, documents, folder)
        if not trained:
            trained, step = _trained(study, known, folder)
        sample = _measured(study, known, trained, documents=documents, folder=folder)
        if number:  # the first run compiles loops and loads kernels
            found.append(sample)
    return found, step


def _measured(
    study: StudyContext,
    known: Activations,
    trained: Sequence[Path],
    *,
    documents: Sequence[str],
    folder: Path,
) -> _Sample:
    """Return the costs of one sample."""
    saes = [open_sae(one, name=name) for name, one in zip(NAMES, trained, strict=True)]
    path, model, source = folder / "a.atlas", study.reader.model, study.settings.source
    settings = Settings(device=study.device, batch_tokens=study.settings.batch_tokens)
    probes = ProbeStudy(study.probe, (source,), model=model, device=study.device)
    arms = [Arm("baseline", seed) for seed in range(len(NAMES))]

    fitted = list[Fitted]()

    def fit() -> None:
        fitted.append(fit_all(known.chunks(), study.settings, progress=SILENT))

    return _Sample(
        sum(map(len, documents)),
        timed(fit),
        timed(lambda: draw_components(fitted[0], known, study.settings)),
        timed(lambda: read_inputs(arms, known, study.settings)),
        timed(
            lambda: ingest(
                path, saes=saes, text=documents, model=model, settings=settings, match=None
            ).close()
        ),
        timed(lambda: run_study(probes, path, NAMES)),
        0.0
        if study.match is None
        else timed(lambda: run_study(MatchStudy(study.match, opened=tuple(saes)), path, NAMES)),  # type: ignore[arg-type]
    )


def _activations(study: StudyContext, documents: Sequence[str], folder: Path) -> Activations:
    corpus = Corpus.gather(list(documents), folder / "text.parquet")
    rows = list(study.reader.stream(corpus, title="", progress=SILENT))
    return Activations(
        source=torch.cat([row.source for row in rows]).numpy(),
        target=torch.cat([row.target for row in rows]).numpy(),
        ids=torch.cat([row.ids for row in rows]).numpy(),
        documents=np.concatenate([row.documents for row in rows]),
    )


def _trained(study: StudyContext, known: Activations, folder: Path) -> tuple[list[Path], float]:
    """Return the folders of SAEs of a few steps, and the seconds of a token in a step."""
    settings = replace(study.settings, batch=min(study.settings.batch, len(known)))
    seconds, found = list[float](), list[Path]()
    arms = [Arm("baseline", seed) for seed in range(len(NAMES))]
    reads = read_inputs(arms, known, settings)
    with SILENT.stage("") as stage:
        for name, arm, steps in zip((NAMES[0], *NAMES), (arms[0], *arms), STEPS, strict=True):
            trained = list[Trained]()
            few = replace(settings, train_tokens=steps * settings.batch)
            work = partial(train, arm, known, few, read=reads[arm.label], stage=stage)
            work = partial(work, metadata=metadata_of(study), device=study.reader.model.device)
            seconds.append(timed(lambda work=work, to=trained: to.append(work())))  # type: ignore[misc]
            found.append(folder / str(len(found)) / name)
            write_sae(found[-1], arm, trained[0], origin={})
    step = max(seconds[2] - seconds[1], 0.0) / (STEPS[2] - STEPS[1])
    return found[1:], step / settings.batch


def _pass_time(study: StudyContext, divided: Divided) -> float:
    """Return the seconds of a token in the model, up to the deeper site."""
    reader, settings = study.reader, study.settings
    text = tokenize(
        divided.corpora["training"].block(0),
        reader.model.tokenizer,
        settings=reader.contexts,
        batch_tokens=reader.batch_tokens,
    )
    if not text.batches:
        return 0.0
    batch = text.batches[-1]
    ids, mask = map(torch.from_numpy, (batch.input_ids, batch.attention_mask))
    hooks = [settings.source, settings.target]
    seconds = timed_on(reader.model.device, lambda: reader.model.run(ids, mask, hooks=hooks))
    return seconds / max(int(batch.keep.sum()), 1)


def _characters(divided: Divided) -> float:
    """Return the characters of a token."""
    return divided.corpora["training"].info.characters / divided.tokens["training"]


def _bytes(study: StudyContext) -> int:
    """Return the bytes of training: weights, gradients and two moments of Adam, and dense codes."""
    settings, width = study.settings, study.reader.model.site(study.settings.target).width
    features = settings.features(width)
    return 4 * (4 * 2 * features * width + 3 * settings.batch * features)
