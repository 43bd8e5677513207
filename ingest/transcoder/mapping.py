"""Which maps to make, and where: models opened, the text read, maps fitted, scored and written as parts."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.disk import discard
from atlas.errors import BadInput, Mismatch, OutOfRoom, UnknownName
from atlas.folder import Folder, Sound
from atlas.parts import Manifest, write_part
from atlas.progress import SILENT, Progress
from atlas.schema import arrow_schema
from ingest.corpus import Corpus
from ingest.ingested import Ingested, open_ingested, reopen_model
from ingest.models import LanguageModel
from ingest.probe.vectors import EMBEDDING
from ingest.scratch import check_room, scratch
from ingest.transcoder.adam import Data, adam
from ingest.transcoder.affine import Affine
from ingest.transcoder.intervals import intervals
from ingest.transcoder.maps import Maps, closed_form
from ingest.transcoder.measure import Measured, bytes_needed, measure, wide_device
from ingest.transcoder.reading import Counts, Text
from ingest.transcoder.scores import scores
from ingest.transcoder.settings import TranscoderSettings
from ingest.transcoder.solve import Spectra
from ingest.transcoder.tokens import TokenSums

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ALL", "VERSION", "map_sites"]

#: Raised when the same text would give other numbers.
VERSION = 1

ALL = "all"
"""Stands for the residual stream after every block."""

_OF_METHOD = {
    "closed form": ("method", "folds", "penalties", "seed", "draws"),
    "adam": ("method", "folds", "rates", "batch", "epochs", "patience", "seed", "draws"),
}


def map_sites(
    atlas: str | Path,
    models: Sequence[str] | None = None,
    *,
    source: str = EMBEDDING,
    targets: Sequence[str] = (ALL,),
    settings: TranscoderSettings = TranscoderSettings(),  # noqa: B008 - frozen
    like: str | None = None,
    documents: NDArray[np.int64] | None = None,
    model: "str | Path | PreTrainedModel | LanguageModel | None" = None,
    tokenizer: object | None = None,
    device: str = "auto",
    memory: int = 2 * 2**30,
    replace: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Fit affine maps from one site of a model to others, over the text of an atlas.

    The model is run once for all targets, and once more for intervals; activations are
    never stored whole (with Adam they are, in files that are removed at the end).

    Parameters
    ----------
    atlas
        The folder of the atlas.
    models
        Names of models that its SAEs read; all if None.
    source
        TransformerLens name of the place that is mapped from.
    targets
        Places that are mapped to, or ``"all"``: ``hook_resid_post`` of every block.
    settings
        How it is done.
    like
        An SAE of the atlas: text is laid out as it was for this one. By default the
        first, by name, of each model.
    documents
        Numbers of the documents to fit and score on; all if None.
    model, tokenizer
        The model, by name, folder or in memory; the one that the atlas notes if None.
    device
        Where the model is run and maps are trained.
    memory
        Bytes that moments and what is solved with them may take; less means more looks at
        the text, and sums by token id in a file.
    replace
        Make anew what is there already with these settings.
    progress
        Told how far the work is.

    Returns
    -------
    list of dict
        The edge MAPS_TO of each map, with both ends.

    Raises
    ------
    UnknownName
        If the atlas has no model or SAE of a name, or the model no such place.
    Missing
        If the model is not at hand.
    Mismatch
        If the model is not the one that was ingested.
    BadInput
        If there are too few documents, or nothing to map.
    BadActivations
        If the model gives NaN or Inf, or Adam diverges.
    OutOfRoom
        If moments do not fit into memory, or files on the disk.
    """
    folder = Folder.open(Path(atlas))
    with folder.writing():
        sound = folder.sound()
        found = []
        for subject in _subjects(sound, models, like):
            hooks = _hooks(source, targets, subject, settings)
            work = _Work(folder, subject, source, settings, documents, memory, progress)
            left = [hook for hook in hooks if replace or not work.there(sound, hook)]
            if left:
                opened = reopen_model(
                    subject, model, hooks=[source, *left], tokenizer=tokenizer, device=device
                )
                work.run(opened, left)
            else:
                progress.say(
                    f"{subject.model['name']} has been mapped already, with these settings."
                )
            sound = folder.sound()
            found += [work.edge(sound, hook) for hook in hooks]
    return found


def _subjects(sound: Sound, models: Sequence[str] | None, like: str | None) -> list[Ingested]:
    """Return an SAE for each model, which says how text is laid out for it."""
    if like is not None:
        one = open_ingested(sound, like)
        if models and list(models) != [one.model["name"]]:
            raise Mismatch(
                f"{like} reads {one.model['name']}, and {', '.join(models)} was named; leave one of them out."
            )
        return [one]
    first: dict[str, Ingested] = {}
    for name in sound.saes:
        each = open_ingested(sound, name)
        first.setdefault(each.model["name"], each)
    if not first:
        raise BadInput("There is no SAE in this atlas, so no model; `atlas ingest` makes one.")
    for name in models or ():
        if name not in first:
            raise UnknownName("model", name, known=first, hint="`atlas list` shows them.")
    return [first[name] for name in dict.fromkeys(models or first)]


def _hooks(
    source: str, targets: Sequence[str], subject: Ingested, settings: TranscoderSettings
) -> list[str]:
    every = [f"blocks.{i}.hook_resid_post" for i in range(subject.model["layers"])]
    found = [
        hook
        for target in targets
        for hook in ([h for h in every if h != source] if target == ALL else [target])
    ]
    if not found:
        raise BadInput("No target was named; name one with --to, such as blocks.1.hook_resid_post.")
    if settings.method == "adam" and source in found:
        raise BadInput(
            f"{source} is both source and target, so there is nothing to train; name another --to."
        )
    return list(dict.fromkeys(found))


@dataclass(eq=False)
class _Work:
    """The maps from one source of one model."""

    folder: Folder
    subject: Ingested
    source: str
    settings: TranscoderSettings
    documents: NDArray[np.int64] | None
    memory: int
    progress: Progress

    @property
    def model_name(self) -> str:
        return str(self.subject.model["name"])

    @property
    def corpus_id(self) -> str:
        assert self.folder.corpus is not None
        return str(self.folder.corpus["id"])

    @property
    def run_name(self) -> str:
        """The property ``run`` of the edges."""
        some = "" if self.documents is None else f"/{_documents(self.documents)}"
        return f"{self.settings.method}/{self.corpus_id}{some}"

    def part_name(self, target: str) -> str:
        name = f"{self.model_name}@{self.source}@{target}@{self.run_name}"
        return re.sub(r"[^A-Za-z0-9@._=-]", "-", name)

    def said(self) -> dict[str, Any]:
        """Return the settings as a manifest holds them."""
        own = {name: getattr(self.settings, name) for name in _OF_METHOD[self.settings.method]}
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}
        some = None if self.documents is None else _documents(self.documents)
        layout = asdict(self.subject.contexts) | {"batch_tokens": self.subject.batch_tokens}
        return own | layout | {"documents": some}

    def origin(self) -> dict[str, Any]:
        """Return the sources as a manifest holds them."""
        names = ("name", "source", "revision", "weights", "tokenizer")
        assert self.folder.corpus is not None
        return {
            "model": {n: self.subject.model[n] for n in names},
            "corpus": {"id": self.corpus_id, "source": self.folder.corpus["source"]},
        }

    def there(self, sound: Sound, target: str) -> bool:
        """Say whether a map has been made with these settings."""
        part = sound.parts.get(f"transcoder/{self.part_name(target)}")
        return (
            part is not None
            and part.manifest.version == VERSION
            and dict(part.manifest.settings) == self.said()
            and part.manifest.sources["model"]["weights"] == self.subject.model["weights"]
        )

    def edge(self, sound: Sound, target: str) -> dict[str, Any]:
        """Return the edge of a map."""
        part = sound.parts[f"transcoder/{self.part_name(target)}"]
        (row,) = part.table("MAPS_TO").to_pylist()
        return dict(row)

    def run(self, model: LanguageModel, targets: Sequence[str]) -> None:
        """Make the maps to some targets, as many in one look at the text as memory allows."""
        text = Text(
            Corpus.open(self.folder.corpus_file), model, contexts=self.subject.contexts,
            batch_tokens=self.subject.batch_tokens, documents=self.documents,
            folds=self.settings.folds, seed=self.settings.seed,
        )  # fmt: skip
        counts = text.count()
        with scratch(self.folder, "transcoder") as into:
            for some in self._together(model, targets, counts):
                sums = self._sums(model, some, counts)
                measured = measure(
                    text, self.source, some, counts=counts, progress=self.progress,
                    scratch=None if sums <= self.memory else self._on_disk(into, sums),
                )  # fmt: skip
                maps = self._maps(text, measured, some, into)
                limits = intervals(
                    text, self.source, {t: m.held_out for t, m in maps.items()}, counts=counts,
                    draws=self.settings.draws, seed=self.settings.seed, progress=self.progress,
                )  # fmt: skip
                for target, those in maps.items():
                    self._write(model, measured, target, those, limits[target])
                    discard(self._checkpoints(target))

    def _maps(
        self, text: Text, measured: Measured, targets: Sequence[str], into: Path
    ) -> dict[str, Maps]:
        if self.settings.method == "adam":
            return self._trained(text, measured, targets, into)
        first = targets[0]
        without = Spectra(lambda f: measured.text(first, f))
        both = Spectra(lambda f: measured.both(first, f))
        title = f"{self.model_name}: maps from {self.source}"
        maps = {}
        with self.progress.stage(title, total=len(targets), unit="sites") as stage:
            for target in targets:
                maps[target] = closed_form(
                    measured, target, penalties=self.settings.penalties, text=without, both=both
                )
                stage.advance()
        return maps

    def _trained(
        self, text: Text, measured: Measured, targets: Sequence[str], into: Path
    ) -> dict[str, Maps]:
        hooks = list(dict.fromkeys([self.source, *targets]))
        total = int(measured.counts.count.sum())
        size = 4 * total * sum(text.model.place(hook).width for hook in hooks)
        todo = "name fewer sites at once, or take --method closed-form, which keeps none"
        check_room(into, size, what="The activations", todo=todo)
        self.progress.say(
            f"The activations of {total:,} tokens at {len(hooks)} site(s) take {size / 2**30:.1f} GiB of disk "
            "while maps are trained. If that is cut short, the same command goes on after the last whole epoch."
        )
        kept = text.scratch(hooks, into, counts=measured.counts, progress=self.progress)
        device = text.model.device
        spectra = Spectra(lambda f: measured.text(targets[0], f))
        rank = spectra.of(range(2, self.settings.folds)).rank
        maps = {}
        for target in targets:
            checkpoints = self._checkpoints(target)
            checkpoints.mkdir(parents=True, exist_ok=True)
            maps[target] = adam(
                Data(kept.read[self.source], kept.read[target]), kept.slot, settings=self.settings,
                device=device, wide=wide_device(device), checkpoints=checkpoints, rank=rank,
                title=f"{self.model_name}: {target}", progress=self.progress,
            )  # fmt: skip
        return maps

    def _checkpoints(self, target: str) -> Path:
        """Return where an unfinished training lies; another setting, text or model has another place."""
        core = repr((self.part_name(target), sorted(self.said().items(), key=str), self.origin()))
        return self.folder.cache / f"adam-{hashlib.sha256(core.encode()).hexdigest()[:12]}"

    def _sums(self, model: LanguageModel, targets: Sequence[str], counts: Counts) -> int:
        width = sum(model.place(target).width for target in targets)
        return TokenSums.bytes_needed(len(counts.keys), width)

    def _on_disk(self, into: Path, size: int) -> Path:
        check_room(into, size, what="The sums by token id", todo="name fewer sites at once")
        self.progress.say(
            f"The sums by token id take {size / 2**30:.1f} GiB, more than --memory; they are kept in a file."
        )
        return into

    def _together(
        self, model: LanguageModel, targets: Sequence[str], counts: Counts
    ) -> list[list[str]]:
        """Divide the targets into as many looks at the text as memory asks for.

        Raises
        ------
        OutOfRoom
            If not even one fits.
        """
        source = model.place(self.source).width
        widths = {target: model.place(target).width for target in targets}

        def needed(some: Sequence[str]) -> int:
            folds = self.settings.folds
            solving = _solving(source, max(widths[t] for t in some), self.settings)
            return solving + bytes_needed(
                source, [widths[t] for t in some], folds=folds,
                at_embedding=self.source == EMBEDDING,
            )  # fmt: skip

        groups: list[list[str]] = [[]]
        for target in targets:
            if needed([target]) > self.memory:
                raise OutOfRoom(
                    f"Moments of {self.source} and {target} in {self.settings.folds} folds take "
                    f"{needed([target]) / 2**30:.1f} GiB, and {self.memory / 2**30:.1f} GiB were given: raise "
                    "--memory, take fewer --folds, or give one --penalty."
                )
            if groups[-1] and needed([*groups[-1], target]) > self.memory:
                groups.append([])
            groups[-1].append(target)
        if len(groups) > 1:
            self.progress.say(
                f"Moments of {len(targets)} sites take more than --memory; the text is read {len(groups)} times."
            )
        return groups

    def _write(
        self,
        model: LanguageModel,
        measured: Measured,
        target: str,
        maps: Maps,
        limits: tuple[float | None, float | None],
    ) -> None:
        said, by_dimension = scores(measured, target, maps)
        ends = {
            "source": f"{self.model_name}/{self.source}",
            "target": f"{self.model_name}/{target}",
        }
        low, high = limits
        edge = ends | said | {
            "run": self.run_name, "method": self.settings.method, "corpus": self.corpus_id,
            "r2_low": low, "r2_high": high,
        }  # fmt: skip
        line = maps.whole.line
        affine = Affine(**ends, weight=line.weight.cpu().float().numpy(), bias=line.bias.cpu().float().numpy())  # fmt: skip
        dimensions = pa.table({k: pa.array(v.cpu().numpy()) for k, v in by_dimension.items()})
        manifest = Manifest(
            kind="transcoder",
            name=self.part_name(target),
            version=VERSION,
            settings=self.said(),
            seed=self.settings.seed,
            sources=self.origin(),
            dtypes={"model": model.dtype, "moments": "float64", "device": model.device.type},
        )
        tables = [
            ("MAPS_TO", _table("MAPS_TO", [edge])),
            *self._sites(model, [self.source, target]),
            ("map", affine.table()),
            ("dimensions", dimensions),
        ]
        write_part(self.folder.part("transcoder", manifest.name), manifest, tables)

    def _sites(self, model: LanguageModel, hooks: Sequence[str]) -> list[tuple[str, pa.Table]]:
        places = [model.place(hook) for hook in dict.fromkeys(hooks)]
        name = self.model_name
        sites = [
            {
                "id": f"{name}/{p.hook}",
                "model": name,
                "hook": p.hook,
                "layer": p.layer,
                "width": p.width,
            }
            for p in places
        ]
        of_model = [{"source": site["id"], "target": name} for site in sites]
        return [("Site", _table("Site", sites)), ("OF_MODEL", _table("OF_MODEL", of_model))]


def _solving(source: int, target: int, settings: TranscoderSettings) -> int:
    """Return the bytes that solving for one target takes, beside the moments."""
    if settings.method == "adam":
        return 8 * 4 * source * (source + target)
    folds = settings.folds
    pairs = folds * (folds - 1) // 2 if len(settings.penalties) > 1 else 0
    spectra = pairs + 2 * (folds + 1)
    maps = 2 * (folds + 1)
    return 8 * source * ((spectra + 6) * source + (maps + 2 * folds + 4) * target)


def _documents(documents: NDArray[np.int64]) -> str:
    """Return a name for a choice of documents."""
    chosen = np.unique(documents)
    digest = hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()[:8]
    return f"documents={len(chosen)}-{digest}"


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=arrow_schema(name, "transcoder"))
