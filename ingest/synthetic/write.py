"""Planted SAEs as an atlas: the parts that an ingest writes, without a model."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.errors import BadInput
from atlas.progress import Progress
from ingest.codes.store import Block, write_shard
from ingest.forward.part_writer import PartWriter
from ingest.forward.shard_runner import recompute_reductions
from ingest.forward.shards import Group, shard_blocks
from ingest.model.language_model import Site
from ingest.reduce import on_activations, on_codes
from ingest.reduce.protocol import ReducedSae, Sizes
from ingest.sae.info import SaeInfo
from ingest.settings import Settings
from ingest.synthetic.settings import PlantedSettings
from ingest.synthetic.text import PlantedText
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings

__all__ = ["write_atlas"]

MODEL = "planted"
HOOK = "hook_embed"


class PlantedCodes(Protocol):
    """The interface of ``Planted``, which imports this module for its method ``write``."""

    settings: PlantedSettings

    @property
    def text(self) -> PlantedText:
        """The text."""

    def blocks(self, sae: str) -> Iterator[Block]:
        """Yield the codes of an SAE, block by block."""


def write_atlas(
    planted: PlantedCodes, path: Path, *, settings: Settings | None, progress: Progress
) -> Atlas:
    """Write an atlas; see ``Planted.write``."""
    if path.exists() and any(path.iterdir()):
        raise BadInput(f"{path} is not empty; name a new or empty folder for the planted atlas.")
    settings = settings or Settings(context=planted.settings.context_size)
    folder = Folder.create(path)
    with folder.writing():
        documents = list(planted.text.documents())
        corpus = Corpus.gather(documents, folder.corpus_file, name=MODEL, progress=progress)
        folder.set_corpus(asdict(corpus.info))
        saes = [SimpleNamespace(info=_info(planted, name)) for name in planted.settings.saes]
        group = _group(planted, saes, settings)
        delivery = PartWriter(folder, folder.sound(), group, corpus.info)
        for sae in saes:
            _write_sae(planted, sae, delivery, settings, progress)
    return Atlas.open(path, progress=progress)


def _write_sae(
    planted: PlantedCodes, sae: Any, delivery: PartWriter, settings: Settings, progress: Progress
) -> None:
    name, run = sae.info.name, delivery.folder.run(f"{sae.info.name}-planted")
    run.mkdir(parents=True)
    size, total = settings.shard_blocks, planted.text.blocks
    blocks = planted.blocks(name)
    for shard in range(-(-total // size)):
        numbers = shard_blocks(shard, size=size, blocks=total)
        write_shard(
            run / f"shard-{shard:05d}.arrow",
            (next(blocks) for _ in numbers),
            sae=name,
            d_sae=sae.info.d_sae,
            first=numbers.start,
        )
    part, words = delivery.sae(sae.info), planted.text.words
    delivery.codes(run, sae=part)

    def texts(ids: Sequence[int]) -> list[str]:
        return [words[i] for i in ids]

    recompute_reductions(
        sae, on_codes(settings), delivery, settings=settings, texts=texts, progress=progress
    )
    # No activations were read, so the parts of activations have 0 tokens.
    none = Sizes(sae.info.d_in, sae.info.d_sae, tokens=0, l0=0, vocabulary=0, codes_stored=True)
    subject = ReducedSae(name, sae.info.d_sae, delivery.group.model.tokenizer_key, texts)
    for reduction in on_activations():
        delivery.reduction(reduction, [reduction.start(none)], sae=part, subject=subject)


def _info(planted: PlantedCodes, name: str) -> SaeInfo:
    identity = f"{planted.settings} {name}"
    return SaeInfo(
        name=name,
        source="memory",
        release=None,
        sae_id=None,
        architecture="planted",
        d_in=1,
        d_sae=planted.settings.d_sae,
        seed=planted.settings.seed,
        neuronpedia_id=None,
        model=MODEL,
        hook=HOOK,
        context_size=planted.settings.context_size,
        prepend_bos=False,
        dtype="float32",
        weights=hashlib.sha256(identity.encode()).hexdigest(),
        model_kwargs={},
    )


def _group(planted: PlantedCodes, saes: list[SimpleNamespace], settings: Settings) -> Group:
    """Return a placeholder for the model, with the properties that parts record."""
    words = "\n".join(planted.text.words)
    model = SimpleNamespace(
        name=MODEL,
        source="memory",
        revision=None,
        weights=None,
        architecture="planted",
        d_model=1,
        layers=0,
        dtype="float32",
        device=SimpleNamespace(type="cpu"),
        tokenizer_key=hashlib.sha256(words.encode()).hexdigest()[:12],
        vocabulary=len(planted.text.words),
        random=False,
        site=lambda hook: Site(hook, None, 1),
        parameters=lambda hooks: (),
    )
    contexts = ContextSettings(planted.settings.context_size, prepend_bos=False)
    return Group(cast(Any, model), cast(Any, tuple(saes)), contexts, settings.batch_tokens)
