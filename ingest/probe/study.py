"""Which SAEs to probe and where: models opened, vectors read, results written as parts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from atlas.errors import BadInput, Mismatch, UnknownName
from atlas.folder import Folder, Sound
from atlas.parts import Manifest, write_part
from atlas.progress import SILENT, Progress
from atlas.schema import arrow_schema
from atlas.temp_storage import scratch
from ingest.forward.site_vectors import EMBEDDING, by_id, by_token
from ingest.model.identity import unchecked
from ingest.model.language_model import LanguageModel
from ingest.probe.part_tables import Run
from ingest.probe.probe_data import Kept
from ingest.probe.schedule import Result, probe_all
from ingest.probe.settings import ProbeSettings
from ingest.probe.site_design import Place, root_mean_square
from ingest.probe.solver.design import Design
from ingest.probe.subject import Subject, check_same, open_subject
from ingest.sae.record import reopen_model
from ingest.text.corpus import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ALL", "VERSION", "probe_saes"]

#: Raised when the same codes would give other tables.
VERSION = 3

ALL = "all"
"""Stands for the embedding and the residual stream after every block."""


@dataclass(frozen=True, eq=False)
class _Other:
    """A second atlas whose text validates: its folder, its parts, its corpus."""

    folder: Folder
    sound: Sound
    corpus: Corpus


def probe_saes(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    sites: Sequence[str] = (EMBEDDING,),
    settings: ProbeSettings = ProbeSettings(),  # noqa: B008 - frozen
    validate: str | Path | None = None,
    model: "str | Path | PreTrainedModel | LanguageModel | None" = None,
    tokenizer: object | None = None,
    device: str = "auto",
    memory: int = 2 * 2**30,
    replace: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Probe sites of a model for the features of SAEs of an atlas, from their kept codes.

    At the embedding no model is run, but for its embedding of the token ids; at other
    sites it is run once for all SAEs and sites.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of its SAEs; all whose codes are kept, if None.
    sites
        TransformerLens names of places in the model, or ``"all"``: the embedding and
        ``hook_resid_post`` of every block.
    settings
        How it is done.
    validate
        Another atlas of the same SAEs on another text, which validates: probes are trained
        on all of this one's.
    model, tokenizer
        The model, by name, folder or in memory; the one that the atlas notes if None.
    device
        Where vectors are read and probes are trained.
    memory
        Bytes that fitting a block of features may take, beside the vectors and the codes of
        these features; less means smaller blocks.
    replace
        Probe again what was probed already with these settings.
    progress
        Told how far the work is.

    Returns
    -------
    list of dict
        A row for each SAE, site and run: how many features were probed and ``left_out``
        (by reason), means of scores, and how many features got each verdict.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name, or the model no such place.
    Missing
        If the codes of an SAE were not kept, or the model is not at hand.
    Mismatch
        If the model is not the one that was ingested.
    BadInput
        If there is nothing to probe, or the text cannot be divided.
    OutOfRoom
        If a single feature does not fit into memory, or vectors not on the disk.
    """
    folder = Folder.open(Path(atlas))
    with folder.writing():
        sound = folder.sound()
        other = None if validate is None else _other(Path(validate), folder)
        rows = []
        for group in _groups(folder, sound, _names(sound, saes, progress)):
            hooks = _hooks(sites, group[0])
            runs = _runs(settings, other)
            left = {s.name: _left(sound, s, hooks, runs, replace, progress) for s in group}
            wanted = [hook for hook in hooks if any(hook in those for those in left.values())]
            if wanted or model is not None:  # one that is given is checked in any case
                opened = reopen_model(
                    group[0], model, hooks=wanted or [EMBEDDING], tokenizer=tokenizer, device=device
                )
                if warning := unchecked(sound, opened.name):
                    progress.say(warning)
            if wanted:
                with scratch(folder, "probe") as into:
                    work = _Work(folder, opened, wanted, settings, other, memory, into, progress)
                    work.run([s for s in group if left[s.name]], left)
            sound = folder.sound()
            rows += [_summary(sound, s, hook, run) for s in group for hook in hooks for run in runs]
    return rows


def _names(sound: Sound, saes: Sequence[str] | None, progress: Progress) -> list[str]:
    if saes:
        return list(dict.fromkeys(saes))
    kept = [name for name in sound.saes if f"codes/{name}" in sound.parts]
    for name in sorted(set(sound.saes) - set(kept)):
        progress.say(f"{name} is passed over: its codes were not kept.")
    if not kept:
        raise BadInput(
            "There is no SAE in this atlas whose codes were kept; `atlas ingest` makes one."
        )
    return kept


def _groups(folder: Folder, sound: Sound, names: Sequence[str]) -> list[list[Subject]]:
    """Return the SAEs that one run of one model serves, together."""
    groups: dict[object, list[Subject]] = {}
    for name in names:
        subject = open_subject(folder, sound, name)
        key = (subject.model["name"], subject.contexts, subject.batch_tokens)
        groups.setdefault(key, []).append(subject)
    return list(groups.values())


def _other(path: Path, own: Folder) -> _Other:
    folder = Folder.open(path)
    corpus = Corpus.open(folder.corpus_file)
    if own.corpus is not None and corpus.info.id == own.corpus["id"]:
        raise BadInput(
            f"{path} is about the same text as {own.path}, so it validates nothing; name an atlas of another "
            "text, or leave --validate out to keep some documents for validation."
        )
    return _Other(folder, folder.sound(), corpus)


def _hooks(sites: Sequence[str], subject: Subject) -> list[str]:
    layers = subject.model["layers"]
    every = [EMBEDDING, *(f"blocks.{i}.hook_resid_post" for i in range(layers))]
    found = [hook for site in sites for hook in (every if site == ALL else [site])]
    if not found:
        raise BadInput("No site was named; name one with --from, such as hook_embed.")
    return list(dict.fromkeys(found))


def _runs(settings: ProbeSettings, other: _Other | None) -> list[Run]:
    info = None if other is None else other.corpus.info
    splits = settings.splits if info is None else ("corpus",)
    return [
        Run(split, kind, settings, *((info.name, info.id) if info else ()))
        for split in splits
        for kind in settings.kinds
    ]


def _part_name(sae: str, hook: str, run: Run) -> str:
    return f"{sae}@{hook}@{run.name.replace('/', '-')}"


def _left(
    sound: Sound,
    subject: Subject,
    hooks: Sequence[str],
    runs: Sequence[Run],
    replace: bool,
    progress: Progress,
) -> list[str]:
    """Return the sites at which an SAE lacks a run of these settings."""
    left = []
    for hook in hooks:
        names = [f"probe/{_part_name(subject.name, hook, run)}" for run in runs]
        parts = [sound.parts.get(name) for name in names]
        there = all(
            part is not None
            and part.manifest.version == VERSION
            and dict(part.manifest.settings) == _settings(run)
            for part, run in zip(parts, runs, strict=True)
        )
        if replace or not there:
            left.append(hook)
    if not left:
        progress.say(f"{subject.name} has been probed there already, with the same settings.")
    return left


def _settings(run: Run) -> dict[str, Any]:
    """Return the settings of one run, as a manifest holds them."""
    said = asdict(run.settings) | {"validated_on": run.validated_on, "corpus": run.corpus}
    del said["splits"], said["kinds"]
    return {"split": run.split, "kind": run.kind, **said}


@dataclass(eq=False)
class _Work:
    """The probing of SAEs that one run of one model serves."""

    folder: Folder
    model: LanguageModel
    hooks: Sequence[str]
    settings: ProbeSettings
    other: _Other | None
    memory: int
    scratch: Path
    progress: Progress

    def run(self, subjects: Sequence[Subject], hooks: Mapping[str, Sequence[str]]) -> None:
        """Probe each SAE at its sites; what is found at a site is written at once."""
        designs: dict[str, Design] = {}
        first: Kept | None = None
        for subject in subjects:
            kept = self._kept(subject)
            if first is None:
                first, designs = kept, self._designs(kept, subject)
            elif kept.lengths != first.lengths or not np.array_equal(kept.ids, first.ids):
                raise Mismatch(
                    f"The codes of {subject.name} are of other tokens than those of {subjects[0].name}; ingest "
                    "one of them anew with --replace."
                )
            for hook in hooks[subject.name]:
                self._probe(subject, kept, self._place(hook, designs[hook], kept))

    def _probe(self, subject: Subject, kept: Kept, place: Place) -> None:
        info = None if self.other is None else self.other.corpus.info
        results = probe_all(
            kept, [place], sae=subject.name, model=self.model.name, settings=self.settings,
            validated_on=(info.name, info.id) if info else None, memory=self.memory, progress=self.progress,
        )  # fmt: skip
        for result in results:
            self._write(subject, result)

    def _kept(self, subject: Subject) -> Kept:
        texts = [subject.shards]
        if self.other is not None:
            there = open_subject(self.other.folder, self.other.sound, subject.name)
            check_same(subject, there, where=self.other.folder.path)
            texts.append(there.shards)
        return Kept(texts, d_sae=int(subject.row["d_sae"]), first=self.settings.tokens)

    def _designs(self, kept: Kept, subject: Subject) -> dict[str, Design]:
        vectors: dict[str, Any] = {}
        if EMBEDDING in self.hooks:
            vectors[EMBEDDING] = by_id(self.model, kept.ids)
        if later := [hook for hook in self.hooks if hook != EMBEDDING]:
            own = Corpus.open(self.folder.corpus_file)
            vectors |= by_token(
                self.model,
                [own] if self.other is None else [own, self.other.corpus],
                contexts=subject.contexts,
                batch_tokens=subject.batch_tokens,
                hooks=later,
                lengths=kept.lengths,
                into=self.scratch,
                progress=self.progress,
            )
        return {
            hook: Design(
                x, device=self.model.device,
                scale=root_mean_square(x) if self.settings.scale else 1.0,
            )
            for hook, x in vectors.items()
        }  # fmt: skip

    def _place(self, hook: str, design: Design, kept: Kept) -> Place:
        if hook == EMBEDDING:
            return Place(hook, design, kept.type, np.arange(len(kept.ids)), at_embedding=True)
        return Place(hook, design, np.arange(len(kept)), kept.type, at_embedding=False)

    def _write(self, subject: Subject, result: Result) -> None:
        sources: dict[str, Any] = {
            "left_out": result.left_out, "validated": {"documents": result.documents},
            "model": {
                "name": subject.model["name"],
                "weights": self.model.weights,
                "parameters": list(self.model.parameters([result.hook])),
            },
        }  # fmt: skip
        if self.other is not None:
            info = self.other.corpus.info
            sources["validation"] = {"corpus": info.id, "source": info.source}
        name = _part_name(subject.name, result.hook, result.run)
        manifest = Manifest(
            kind="probe",
            name=name,
            version=VERSION,
            saes=(subject.name,),
            settings=_settings(result.run),
            seed=self.settings.seed,
            sources=sources,
            dtypes={"probe": "float32", "device": self.model.device.type},
            made_from={subject.sae.manifest.key: subject.sae.manifest.hash},
        )
        tables = [("PREDICTED_FROM", result.table), *self._site(subject, result.hook)]
        if result.draws is not None:
            tables.append(("draws", result.draws))
        write_part(self.folder.part("probe", name), manifest, tables)

    def _site(self, subject: Subject, hook: str) -> list[tuple[str, pa.Table]]:
        place, model = self.model.place(hook), subject.model["name"]
        site = {"id": f"{model}/{hook}", "model": model, "hook": hook,
                "layer": place.layer, "width": place.width}  # fmt: skip
        of_model = {"source": site["id"], "target": model}
        return [
            (name, pa.Table.from_pylist([row], schema=arrow_schema(name)))
            for name, row in (("Site", site), ("OF_MODEL", of_model))
        ]


def _summary(sound: Sound, subject: Subject, hook: str, run: Run) -> dict[str, Any]:
    """Return what a run found, as a row of a table."""
    key = f"probe/{_part_name(subject.name, hook, run)}"
    if key not in sound.parts:
        raise UnknownName("part", key, known=sound.parts)
    part = sound.parts[key]
    found = part.table("PREDICTED_FROM")
    means = ("balanced_accuracy", "token_table", "token_ceiling", "control", "shuffled", "r2",
             "r2_token_table", "r2_token_ceiling")  # fmt: skip
    row: dict[str, Any] = {"sae": subject.name, "site": hook, "run": run.name}
    row["features"] = found.num_rows
    for name in means:
        values = found[name].drop_null().to_numpy()
        row[name] = float(values.mean()) if len(values) else None
    verdicts = found["verdict"].drop_null().value_counts().to_pylist()
    row["verdicts"] = {v["values"]: v["counts"] for v in verdicts}
    row["not_converged"] = found["converged"].to_pylist().count(False)
    row["left_out"] = dict(part.manifest.sources["left_out"])
    return row
