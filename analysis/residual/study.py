"""Residual studies from texts to parts: fit, train, ingest, probe and match.

Finished steps are stored: the split of documents, activations, each trained SAE, and the
results of ingesting, probing and matching. After an interruption, the same command resumes
there, with the same result.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from analysis.residual.activations import Reader
from analysis.residual.estimate import measure_stages
from analysis.residual.evaluate import evaluate
from analysis.residual.part import VERSION, found_of, result_of
from analysis.residual.settings import MATCH, PROBE, ResidualSettings
from analysis.residual.split import Divided, divide
from analysis.residual.study_context import StudyContext
from analysis.residual.train import all_arms
from analysis.residual.train_arms import train_all
from atlas.disk.atomic_files import discard
from atlas.disk.folder import Folder
from atlas.disk.parts import Part
from atlas.errors import BadInput, Mismatch
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost
from atlas.studies.results import Result
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext
from ingest.forward.part_writer import check_model
from ingest.match.settings import MatchSettings
from ingest.model.language_model import LanguageModel, open_model
from ingest.model.sites import depth
from ingest.probe.settings import ProbeSettings
from ingest.sae.info import slug
from ingest.text.atlas_corpus import Text, beginning
from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings, check_tokenizer, token_counts
from ingest.torch_study import TorchStudy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ResidualStudy", "residual_study"]

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
) -> Result:
    """Train SAEs on a site, on the residual of a map from another site, and on controls; evaluate all.

    Parameters
    ----------
    atlas
        The folder of the atlas; a new one is created if it does not exist. If the atlas has a
        corpus, the SAEs are evaluated on it.
    model, text, settings, tokenizer, device, name, probe, match
        See ``ResidualStudy``.
    replace
        Replace a study of this name that has other settings.
    progress
        Receives the progress.

    Returns
    -------
    A result with ``study`` (its name), ``arms`` (the rows of that table, with FVU, L0 and share
    of dead features), ``probes`` and ``matches`` (rows of the results of ``probe_saes`` and
    ``match_saes``).

    Raises
    ------
    AtlasError
        A subclass of it from ``atlas.errors``; finished steps are not lost.

    Examples
    --------
    >>> from analysis import ResidualSettings, residual_study
    >>> sites = ("hook_embed", "blocks.0.hook_resid_post")
    >>> settings = ResidualSettings(*sites, d_sae=32, k=4, draws=1, epochs=1, text_tokens=6000)
    >>> result = residual_study(
    ...     "residual.atlas", model="tiny-a", text="stories.jsonl", settings=settings, match=None
    ... )
    >>> len(result.to_pandas("arms"))
    4
    """
    study = ResidualStudy(
        settings,
        model=model,
        text=text,
        tokenizer=tokenizer,
        device=device,
        name=name,
        probe=probe,
        match=match,
        replace=replace,
    )
    (result,) = run_study(study, atlas, replace=replace, progress=progress)
    return result


@dataclass(eq=False)
class ResidualStudy(TorchStudy):
    """Train SAEs on a site, on the residual of a map from another site, and on controls.

    The study has one task. Its SAEs are trained, ingested, probed from the source and matched;
    each step is stored.

    Parameters
    ----------
    settings
        Sites, sizes, shares, seeds.
    model, tokenizer
        The model, by name, folder or in memory; the tokenizer of a model in memory.
    text
        The text, whose documents are split for the map, for training, and for the corpus of a
        new atlas.
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
    """

    kind: ClassVar[str] = "residual"
    version: ClassVar[int] = VERSION
    part_names: ClassVar[str] = "by the study"
    tables: ClassVar[Mapping[str, str]] = {
        "arms": "the SAEs of the study",
        "split": "the division of documents",
    }
    resumes: ClassVar[bool] = True

    settings: ResidualSettings
    _: KW_ONLY
    model: Any
    text: Any
    tokenizer: object | None = None
    device: str = "auto"
    name: str | None = None
    probe: ProbeSettings = PROBE
    match: MatchSettings | None = MATCH
    replace: bool = False
    _divided: Divided = field(init=False, repr=False)

    @cached_property
    def reader(self) -> Reader:
        """The model and the sites that are read."""
        return _reader(self.model, self.tokenizer, self.settings, self.device)

    @contextmanager
    def opening(self, path: Path) -> Iterator[Folder]:
        """Open the atlas, or create one; the model and the name are checked first."""
        self._context_name()
        with beginning(path) as folder:
            yield folder

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """No SAE is named: the study trains its SAEs."""
        return 0

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return the only task, after the text is read and split."""
        reader, context = self.reader, self._context(at)
        source, target = (
            depth(hook, model=reader.model.name, layers=reader.model.layers)
            for hook in (reader.source, reader.target)
        )
        if source >= target:
            at.progress.report(
                f"{reader.source} is not earlier in the model than {reader.target}. A feature that is harder to predict "
                "from this source is not thereby computed after it."
            )
        names = tuple(context.sae_name(arm) for arm in all_arms(self.settings))
        check_model(at.sound, reader.model, besides=set(names))
        self._divided = _divide(context)
        recorded = {
            "probe": asdict(self.probe),
            "match": None if self.match is None else asdict(self.match),
            "model": reader.model.name,
            "contexts": asdict(reader.contexts),
            "device": self.device,
        }
        return [Task(context.name, names, self.settings, recorded=recorded)]

    def forecast(self, task: Task, at: TaskContext) -> Cost | None:
        """Return the cost of all steps, measured on two samples of the text."""
        return measure_stages(self._context(at), self._divided)[1]

    def run_group(self, tasks: Sequence[Task], at: TaskContext) -> Iterator[tuple[Task, Found]]:
        """Train and evaluate the SAEs; temporary files are removed once the part is stored."""
        (task,) = tasks
        context = self._context(at)
        trained = train_all(context, self._divided)
        evaluate(context, trained)
        yield task, found_of(context, self._divided, trained)
        discard(context.scratch)

    def result(self, part: Part) -> Result:
        """Return the SAEs of the study, their probes and their matches."""
        return result_of(part)

    def _context_name(self) -> str:
        name = self.name or _default_name(self.reader)
        if name != slug(name):
            raise BadInput(
                f"The name of the study is {name!r}; expected lower-case letters, digits, '.', '_' and '-', such "
                f"as {slug(name) or 'my-study'!r}."
            )
        return name

    def _context(self, at: TaskContext) -> StudyContext:
        return StudyContext(
            at.folder,
            self._context_name(),
            reader=self.reader,
            text=self.text if isinstance(self.text, Text) else Text(self.text),
            settings=self.settings,
            probe=self.probe,
            match=self.match,
            device=self.device,
            replace=self.replace,
            progress=at.progress,
        )


def _reader(
    model: Any, tokenizer: object | None, settings: ResidualSettings, device: str
) -> Reader:
    hooks = [settings.source, settings.target]
    opened = (
        model
        if isinstance(model, LanguageModel)
        else open_model(model, tokenizer=tokenizer, hooks=hooks, device=device, cached_digests=True)
    )
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
        text.source,
        study.scratch / "text.parquet",
        name=text.name,
        revision=text.revision,
        split=text.split,
        field=text.field,
        split_on=text.split_on,
        tokens=settings.text_tokens,
        count=partial(token_counts, tokenizer=study.reader.model.tokenizer),
        progress=study.progress,
    )
    own = None if folder.corpus is None else Corpus.open(folder.corpus_file)
    divided = divide(
        full_text,
        settings,
        own=own,
        tokenizer=study.reader.model.tokenizer,
        into=study.scratch,
        mine=folder.corpus is not None and folder.corpus.get("study") == study.name,
        progress=study.progress,
    )
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
