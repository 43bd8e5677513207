"""A residual study from texts to parts: fit, train, ingest, probe and match, and go on where it stopped.

What is finished is kept: documents once divided, activations, each trained SAE, and all that
ingesting, probing and matching keep. The same command goes on from there and ends the same.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.residual.activations import Reader
from analysis.residual.evaluate import after, measure
from analysis.residual.settings import MATCH, PROBE, ResidualSettings
from analysis.residual.split import Divided, divide
from analysis.residual.study_context import StudyContext
from analysis.residual.train import all_arms
from analysis.residual.train_arms import train_all
from atlas.errors import BadInput, Mismatch
from atlas.progress import SILENT, Progress
from ingest.forward.part_writer import check_model
from ingest.match.settings import MatchSettings
from ingest.model.language_model import LanguageModel, open_model
from ingest.model.sites import depth
from ingest.probe.settings import ProbeSettings
from ingest.sae.info import slug
from ingest.text.atlas_corpus import Text, beginning
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings, check_tokenizer, token_counts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["residual_study"]

#: Contexts, unless it is said.
CONTEXT = 256


def residual_study(
    atlas: str | Path,
    *,
    model: "str | Path | PreTrainedModel | LanguageModel",
    text: "Text | str | Path | Sequence[str]",
    settings: ResidualSettings,
    tokenizer: object | None = None,
    device: str = "auto",
    name: str | None = None,
    probe: ProbeSettings = PROBE,
    match: MatchSettings | None = MATCH,
    replace: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train SAEs on a place, on it less what another tells of it, and on controls; measure all alike.

    Parameters
    ----------
    atlas
        The folder of the atlas; a new one is begun if there is none. One that has its
        corpus already keeps it: the SAEs are measured on that.
    model, tokenizer
        The model, by name, folder or in memory; the tokenizer of one in memory.
    text
        What the map is fitted on, the SAEs are trained on, and a new atlas is about: its
        documents are divided.
    settings
        Places, sizes, shares, seeds.
    device
        Where it is computed.
    name
        Name of the study, a slug; made of the model and the places if None.
    probe
        How all SAEs' features are predicted from the source.
    match
        How baselines are matched with SAEs of their own seed, and a few with those of another
        where there is one; None: not at all.
    replace
        Make a study of this name anew that was made otherwise.
    progress
        Told how far it is.

    Returns
    -------
    dict
        ``study`` (its name), ``arms`` (the rows of that table, with FVU, L0 and share of dead
        features), ``probes`` and ``matches`` (as ``probe_saes`` and ``match_saes`` tell).

    Raises
    ------
    AtlasError
        One of the tree in ``atlas.errors``; nothing finished is lost.
    """
    reader = _reader(model, tokenizer, settings, device)
    called = name or _called(reader)
    if called != slug(called):
        raise BadInput(
            f"The name {called!r} cannot be a study's: use lower-case letters, digits, '.', '_' and '-', such "
            f"as {slug(called) or 'my-study'!r}."
        )
    source, target = (
        depth(hook, model=reader.model.name, layers=reader.model.layers)
        for hook in (reader.source, reader.target)
    )
    if source >= target:
        progress.report(
            f"{reader.source} is not earlier in the model than {reader.target}: that a feature is harder to "
            "predict from there does not say that the model computes it after that place."
        )
    given = text if isinstance(text, Text) else Text(text)
    with beginning(Path(atlas)) as folder:
        study = StudyContext(
            folder, called, reader=reader, text=given, settings=settings, probe=probe,
            match=match, device=device, replace=replace, progress=progress,
        )  # fmt: skip
        check_model(folder, reader.model, besides={study.sae_name(a) for a in all_arms(settings)})
        divided = _divide(study)
        facts = train_all(study, divided, after=after(study))
    return measure(study, divided, facts)


def _reader(
    model: Any, tokenizer: object | None, settings: ResidualSettings, device: str
) -> Reader:
    hooks = [settings.source, settings.target]
    opened = (
        model if isinstance(model, LanguageModel)
        else open_model(model, tokenizer=tokenizer, hooks=hooks, device=device)
    )  # fmt: skip
    for hook in hooks:
        opened.site(hook)
    longest = getattr(opened.base.config, "max_position_embeddings", None)
    context = settings.context or min(CONTEXT, longest or CONTEXT)
    if longest is not None and context > longest:
        raise Mismatch(
            f"Contexts of {context} tokens were asked for, and {opened.name} takes {longest} at most."
        )
    contexts = ContextSettings(context, prepend_bos=opened.tokenizer.bos_token_id is not None)
    check_tokenizer(opened.tokenizer, settings=contexts)
    settings.features(opened.site(settings.target).width)
    return Reader(opened, settings.source, settings.target, contexts, settings.batch_tokens)


def _called(reader: Reader) -> str:
    """Name a study by its model and places: ``tiny-a-l1-from-embed``."""
    model = reader.model.name.rstrip("/").split("/")[-1]
    return slug(f"{model}-{_short(reader.target)}-from-{_short(reader.source)}")


def _short(hook: str) -> str:
    if not hook.startswith("blocks."):
        return hook.removeprefix("hook_")
    _, layer, rest = hook.split(".", 2)
    return f"l{layer}" if rest == "hook_resid_post" else f"l{layer}-{rest.removeprefix('hook_')}"


def _divide(study: StudyContext) -> Divided:
    """Read and divide the text; in a new atlas, put down its corpus."""
    folder, settings, text = study.folder, study.settings, study.text
    study.scratch.mkdir(parents=True, exist_ok=True)
    whole = Corpus.gather(
        text.source, study.scratch / "text.parquet", name=text.name, revision=text.revision,
        split=text.split, field=text.field, split_on=text.split_on, tokens=settings.text_tokens,
        count=partial(token_counts, tokenizer=study.reader.model.tokenizer), progress=study.progress,
    )  # fmt: skip
    own = None if folder.corpus is None else Corpus.open(folder.corpus_file)
    divided = divide(
        whole, settings, own=own, tokenizer=study.reader.model.tokenizer,
        into=study.scratch, mine=folder.corpus is not None and folder.corpus.get("study") == study.name,
        progress=study.progress,
    )  # fmt: skip
    if own is None:
        made = divided.corpora["corpus"]
        made.path.replace(folder.corpus_file)
        folder.set_corpus({**asdict(made.info), "tokens_asked": None, "study": study.name})
    sides = {"map": "for the map", "training": "to train on", "corpus": "to measure on"}
    told = [
        f"{sides[role]} {corpus.info.documents:,} ({divided.tokens[role]:,} tokens)"
        for role, corpus in divided.corpora.items()
    ]
    study.progress.report(f"Documents {', '.join(told)}; none is on two sides.")
    return divided
