"""Run a residual study from texts to parts: fit, train, ingest, probe and match.

Finished steps are stored: the split of documents, activations, each trained SAE, and the
results of ingesting, probing and matching. After an interruption, the same command resumes
there, with the same result.
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

#: Default length of contexts.
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
    """Train SAEs on a site, on the residual of a map from another site, and on controls; evaluate all.

    Parameters
    ----------
    atlas
        The folder of the atlas; a new one is created if it does not exist. If the atlas has a
        corpus, the SAEs are evaluated on it.
    model, tokenizer
        The model, by name, folder or in memory; the tokenizer of a model in memory.
    text
        The text, whose documents are split for the map, for training, and for the corpus of a
        new atlas.
    settings
        Sites, sizes, shares, seeds.
    device
        Device of the computation.
    name
        Name of the study, a slug; derived from the model and the sites if None.
    probe
        Settings of the probes from the source.
    match
        Settings of the matches of baselines with SAEs of the same and of another seed; None
        for no matches.
    replace
        Replace a study of this name that has other settings.
    progress
        Receives the progress.

    Returns
    -------
    dict
        ``study`` (its name), ``arms`` (the rows of that table, with FVU, L0 and share of dead
        features), ``probes`` and ``matches`` (results of ``probe_saes`` and ``match_saes``).

    Raises
    ------
    AtlasError
        A subclass of it from ``atlas.errors``; finished steps are not lost.
    """
    reader = _reader(model, tokenizer, settings, device)
    study_name = name or _default_name(reader)
    if study_name != slug(study_name):
        raise BadInput(
            f"The name of the study is {study_name!r}; expected lower-case letters, digits, '.', '_' and '-', such "
            f"as {slug(study_name) or 'my-study'!r}."
        )
    source, target = (
        depth(hook, model=reader.model.name, layers=reader.model.layers)
        for hook in (reader.source, reader.target)
    )
    if source >= target:
        progress.report(
            f"{reader.source} is not earlier in the model than {reader.target}. A feature that is harder to predict "
            "from this source is not thereby computed after it."
        )
    source_text = text if isinstance(text, Text) else Text(text)
    with beginning(Path(atlas)) as folder:
        study = StudyContext(
            folder, study_name, reader=reader, text=source_text, settings=settings, probe=probe,
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
            f"Contexts have {context} tokens; expected at most {longest}, the limit of {opened.name}."
        )
    contexts = ContextSettings(context, prepend_bos=opened.tokenizer.bos_token_id is not None)
    check_tokenizer(opened.tokenizer, settings=contexts)
    settings.features(opened.site(settings.target).width)
    return Reader(opened, settings.source, settings.target, contexts, settings.batch_tokens)


def _default_name(reader: Reader) -> str:
    """Return a name from model and sites: ``tiny-a-l1-from-embed``."""
    model = reader.model.name.rstrip("/").split("/")[-1]
    return slug(f"{model}-{_short(reader.target)}-from-{_short(reader.source)}")


def _short(hook: str) -> str:
    if not hook.startswith("blocks."):
        return hook.removeprefix("hook_")
    _, layer, rest = hook.split(".", 2)
    return f"l{layer}" if rest == "hook_resid_post" else f"l{layer}-{rest.removeprefix('hook_')}"


def _divide(study: StudyContext) -> Divided:
    """Read and split the text; in a new atlas, store its corpus."""
    folder, settings, text = study.folder, study.settings, study.text
    study.scratch.mkdir(parents=True, exist_ok=True)
    full_text = Corpus.gather(
        text.source, study.scratch / "text.parquet", name=text.name, revision=text.revision,
        split=text.split, field=text.field, split_on=text.split_on, tokens=settings.text_tokens,
        count=partial(token_counts, tokenizer=study.reader.model.tokenizer), progress=study.progress,
    )  # fmt: skip
    own = None if folder.corpus is None else Corpus.open(folder.corpus_file)
    divided = divide(
        full_text, settings, own=own, tokenizer=study.reader.model.tokenizer,
        into=study.scratch, mine=folder.corpus is not None and folder.corpus.get("study") == study.name,
        progress=study.progress,
    )  # fmt: skip
    if own is None:
        corpus = divided.corpora["corpus"]
        corpus.path.replace(folder.corpus_file)
        folder.set_corpus({**asdict(corpus.info), "tokens_asked": None, "study": study.name})
    uses = {"map": "for the map", "training": "for training", "corpus": "for evaluation"}
    counts = [
        f"{corpus.info.documents:,} {uses[role]} ({divided.tokens[role]:,} tokens)"
        for role, corpus in divided.corpora.items()
    ]
    study.progress.report(f"Documents: {', '.join(counts)}. These sets are disjoint.")
    return divided
