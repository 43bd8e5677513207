"""A residual study from texts to parts: fit, train, ingest, probe and match, and go on where it stopped.

What is finished is kept: documents once divided, activations, each trained SAE, and all that
ingesting, probing and matching keep. The same command goes on from there and ends the same.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from atlas.disk import discard
from atlas.errors import BadInput, Mismatch
from atlas.folder import Folder
from atlas.parts import Manifest, write_part
from atlas.progress import SILENT, Progress
from ingest.contexts import ContextSettings, check_tokenizer, token_counts, tokenize
from ingest.corpus import Corpus, CorpusInfo
from ingest.demonstration import demo_text
from ingest.match.pairing import match_saes
from ingest.match.settings import MatchSettings
from ingest.models import LanguageModel, open_model
from ingest.probe.probing import probe_saes
from ingest.probe.settings import ProbeSettings
from ingest.residual.activations import Activations, Reader, keep
from ingest.residual.fit import Drawn, Fitted, draw_components, fit_all
from ingest.residual.folders import finished, write_sae
from ingest.residual.settings import ALL_PRIOR, DEMO_TEXT, MATCH, PROBE, ResidualSettings
from ingest.residual.shares import unlike
from ingest.residual.split import ROLES, Divided, Role, divide
from ingest.residual.train import Arm, Facts, all_arms, look, train
from ingest.run import Text, ingest
from ingest.sae_info import slug
from ingest.saes import open_sae
from ingest.settings import Settings
from ingest.sites import parse_hook
from ingest.subtract import MapAndTokenMeans

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["STUDY", "VERSION", "residual_study"]

STUDY = "residual"
"""The kind of a study's part."""

#: Raised when the same texts and settings would give other numbers; and for each arm, other SAEs.
#: Token means of version 1 were not shrunk, those of version 2 towards the mean of all only.
VERSION = 3
VERSIONS = {"baseline": 1, "residual": 1, "components": 1, "token-means": 3}

#: Contexts, unless it is said.
CONTEXT = 256

#: Baselines that are matched across seeds.
CROSSED = 3

#: Steps by which the time of training is measured; the first takes longer.
STEPS = 6

#: Places of a block in the order they are computed.
_WITHIN = (
    "hook_resid_pre", "attn.hook_z", "hook_attn_out", "hook_resid_mid", "mlp.hook_post", "hook_mlp_out",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Study:
    """What all steps of a study know."""

    folder: Folder
    name: str
    settings: ResidualSettings
    reader: Reader
    text: Text
    replace: bool
    progress: Progress

    @property
    def scratch(self) -> Path:
        """Where it keeps what it needs until its SAEs are trained."""
        return self.folder.cache / f"residual-{self.name}"

    def sae_name(self, arm: Arm) -> str:
        """Return the name of an arm's SAE."""
        return f"{self.name}-{arm.label}"

    def place(self, arm: Arm) -> Path:
        """Return the folder of an arm's SAE."""
        return self.folder.path / "saes" / self.sae_name(arm)


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
    if _depth(reader, reader.source) >= _depth(reader, reader.target):
        progress.say(
            f"{reader.source} is not earlier in the model than {reader.target}: that a feature is harder to "
            "predict from there does not say that the model computes it after that place."
        )
    begun = not Path(atlas).exists()
    folder = Folder.create(Path(atlas))
    given = text if isinstance(text, Text) else Text(text)
    study = _Study(folder, called, settings, reader, given, replace, progress)
    with folder.writing():
        try:
            divided = _divide(study)
        except BaseException:
            if begun and folder.corpus is None:  # there is nothing in it yet
                discard(folder.path)
            raise
        facts = _train(study, divided, after=_after(study, match))
    return _measure(study, divided, facts, probe=probe, match=match, device=device)


def _reader(
    model: Any, tokenizer: object | None, settings: ResidualSettings, device: str
) -> Reader:
    hooks = [settings.source, settings.target]
    opened = (
        model if isinstance(model, LanguageModel)
        else open_model(model, tokenizer=tokenizer, hooks=hooks, device=device)
    )  # fmt: skip
    for hook in hooks:
        opened.place(hook)
    longest = getattr(opened.base.config, "max_position_embeddings", None)
    context = settings.context or min(CONTEXT, longest or CONTEXT)
    if longest is not None and context > longest:
        raise Mismatch(
            f"Contexts of {context} tokens were asked for, and {opened.name} takes {longest} at most."
        )
    contexts = ContextSettings(context, prepend_bos=opened.tokenizer.bos_token_id is not None)
    check_tokenizer(opened.tokenizer, settings=contexts)
    settings.features(opened.place(settings.target).width)
    return Reader(opened, settings.source, settings.target, contexts, settings.batch_tokens)


def _depth(reader: Reader, hook: str) -> tuple[int, int]:
    """Return how late a place is computed; what leaves a block is what enters the next."""
    layer, within = parse_hook(hook, model=reader.model.name, layers=reader.model.layers)
    if layer is None:
        return -1, 0
    return (layer, _WITHIN.index(within)) if within in _WITHIN else (layer + 1, 0)


def _called(reader: Reader) -> str:
    """Name a study by its model and places: ``tiny-a-l1-from-embed``."""
    model = reader.model.name.rstrip("/").split("/")[-1]
    return slug(f"{model}-{_short(reader.target)}-from-{_short(reader.source)}")


def _short(hook: str) -> str:
    if not hook.startswith("blocks."):
        return hook.removeprefix("hook_")
    _, layer, rest = hook.split(".", 2)
    return f"l{layer}" if rest == "hook_resid_post" else f"l{layer}-{rest.removeprefix('hook_')}"


# ---------------------------------------------------------------- texts


def _divide(study: _Study) -> Divided:
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
    study.progress.say(f"Documents {', '.join(told)}; none is on two sides.")
    return divided


# ---------------------------------------------------------------- training


def _train(study: _Study, divided: Divided, *, after: str) -> dict[str, tuple[Arm, Facts]]:
    """Train the SAEs that are not finished, and return what each training told, by SAE.

    What comes ``after`` is told before it begins.
    """
    done: dict[str, tuple[Arm, Facts]] = {}
    todo = []
    for arm in all_arms(study.settings):
        origin = _origin(study, divided, arm)
        there = finished(study.place(arm), origin, replace=study.replace)
        if there is None:
            todo.append(arm.label)
        else:
            done[study.sae_name(arm)] = arm, there
    if done:
        study.progress.say(f"{len(done)} of {study.settings.saes} SAEs are trained already.")
    if not todo:
        return done
    _estimate(study, divided, len(todo), after)
    fitted, drawn, training = _fit(study, divided)
    arms = all_arms(study.settings, fitted, drawn)
    steps = study.settings.steps(len(training))
    # Whatever refuses one of them does so before any is trained.
    reads = look([arm for arm in arms if arm.label in todo], training, study.settings)
    for number, arm in enumerate(arms, start=1):
        if arm.label not in todo:
            continue
        title = f"Training {arm.label} ({number} of {len(arms)})"
        with study.progress.stage(title, total=steps, unit="steps") as stage:
            trained = train(
                arm, training, study.settings, read=reads[arm.label], metadata=_metadata(study),
                stage=stage, device=study.reader.model.device,
            )  # fmt: skip
        if arm.name == "token-means":
            trained = replace(trained, facts=replace(trained.facts, shrunk=fitted.shrunk))
        write_sae(study.place(arm), arm, trained, origin=_origin(study, divided, arm))
        done[study.sae_name(arm)] = arm, trained.facts
    return {study.sae_name(arm): done[study.sae_name(arm)] for arm in arms}


def _fit(study: _Study, divided: Divided) -> tuple[Fitted, list[Drawn], Activations]:
    """Fit what is taken away, and say how much it is."""
    reader, settings, corpora = study.reader, study.settings, divided.corpora
    training = keep(
        reader, corpora["training"], study.scratch / "activations",
        tokens=divided.tokens["training"], progress=study.progress,
    )  # fmt: skip
    rows = reader.stream(
        corpora["map"], title=f"{reader.model.name}: fitting the map", progress=study.progress
    )
    fitted = fit_all(rows, settings, progress=study.progress)
    drawn, taken = draw_components(fitted, training, settings)
    near = (
        "; the components drawn for the controls "
        + ", ".join(f"{d.share:.1%} ({d.less.directions.shape[1]})" for d in drawn)
        if drawn
        else ""
    )
    study.progress.say(
        f"The map from {settings.source} takes away {taken:.1%} of the variance of {settings.target} on the "
        f"training documents ({fitted.r2:.1%} where it was fitted){near}. {_of_means(fitted)}"
    )
    if drawn and (why := unlike([d.share for d in drawn], taken)):
        study.progress.say(f"The components are no control of the map: {why}.")
    return fitted, drawn, training


def _of_means(fitted: Fitted) -> str:
    """Say how far token means were shrunk."""
    prior = (
        "what the map says of it"
        if isinstance(fitted.token_means, MapAndTokenMeans)
        else "the mean of all"
    )
    if fitted.shrunk is None:
        return f"One token of {prior} is mixed into the mean of each token id; there are too few documents to choose."
    if fitted.shrunk == ALL_PRIOR:
        return f"On documents left out the token tells nothing beyond that: the mean of each token id is {prior}."
    return f"Into the mean of each token id are mixed {fitted.shrunk:g} tokens of {prior}."


def _origin(study: _Study, divided: Divided, arm: Arm) -> dict[str, Any]:
    """Return all that the training of an SAE depends on; other seeds and draws do not count."""
    said = asdict(study.settings)
    for elsewhere in ("seeds", "draws", "text_tokens"):
        del said[elsewhere]
    model = study.reader.model
    return said | {
        "version": VERSIONS[arm.name],
        "arm": arm.label,
        "model": model.weights,
        "tokenizer": model.tokenizer_key,
        "contexts": asdict(study.reader.contexts),
        "fitted on": divided.corpora["map"].info.id,
        "trained on": divided.corpora["training"].info.id,
    }


def _metadata(study: _Study) -> dict[str, Any]:
    """Return what an SAE's configuration says of its model and contexts."""
    model, contexts = study.reader.model, study.reader.contexts
    return {
        "model_name": model.name if model.source == "memory" else model.source,
        "context_size": contexts.context_size,
        "prepend_bos": contexts.prepend_bos,
    }


def _estimate(study: _Study, divided: Divided, saes: int, after: str) -> None:
    """Tell what training will take, measured on one batch of text and a few steps."""
    reader, settings = study.reader, study.settings
    text = tokenize(
        divided.corpora["training"].block(0), reader.model.tokenizer,
        settings=reader.contexts, batch_tokens=reader.batch_tokens,
    )  # fmt: skip
    if not text.batches:
        return
    batch = text.batches[-1]
    ids, mask = map(torch.from_numpy, (batch.input_ids, batch.attention_mask))
    hooks = [settings.source, settings.target]
    began = time.perf_counter()
    reader.model.run(ids, mask, hooks=hooks)
    passes = (time.perf_counter() - began) / max(int(batch.keep.sum()), 1)
    passes *= divided.tokens["map"] + divided.tokens["training"]
    steps = settings.steps(divided.tokens["training"])
    training = _step_time(study) * steps * saes
    width = reader.model.place(settings.target).width
    study.progress.say(
        f"{saes} SAE(s) of {settings.features(width):,} features to train, {steps:,} steps each: about "
        f"{_time(passes)} for the activations and {_time(training)} for training. {after}"
    )


def _after(study: _Study, match: MatchSettings | None) -> str:
    """Say what comes after training; how long it takes is not measured."""
    arms = {study.sae_name(arm): (arm, None) for arm in all_arms(study.settings)}
    pairs = 0 if match is None else len(_pairs(arms))
    matched = f", and {pairs} pairs of them are matched" if pairs else ""
    return (
        f"After that all {len(arms)} SAEs are ingested, their features are probed from "
        f"{study.settings.source}{matched}: that takes longer, by how much was not measured."
    )


def _step_time(study: _Study) -> float:
    """Return the seconds of a training step, measured on random numbers."""
    import numpy as np

    width = study.reader.model.place(study.settings.target).width
    draw = np.random.default_rng(0)
    some = draw.standard_normal((study.settings.batch, width), dtype=np.float32)
    none = np.zeros(len(some), dtype=np.int64)
    few = Activations(some, some, none, none)
    settings = replace(study.settings, train_tokens=STEPS * len(some))
    arm, clock = Arm("baseline", 0), _Clock([])
    train(
        arm, few, settings, read=look([arm], few, settings)[arm.label], metadata={}, stage=clock,
        device=study.reader.model.device,
    )  # fmt: skip
    return float(np.median(np.diff(clock.times)))


@dataclass(frozen=True)
class _Clock:
    """A stage that notes when each step ended."""

    times: list[float]

    def advance(self, by: float = 1) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


# ---------------------------------------------------------------- measuring


def _measure(
    study: _Study,
    divided: Divided,
    trained: Mapping[str, tuple[Arm, Facts]],
    *,
    probe: ProbeSettings,
    match: MatchSettings | None,
    device: str,
) -> dict[str, Any]:
    """Ingest, probe and match all SAEs, and write the study's part."""
    path, model = study.folder.path, study.reader.model
    opened = [open_sae(study.place(arm), name=name) for name, (arm, _) in trained.items()]
    ingest(
        path, saes=opened, model=model, match=None, replace=_stale(study, opened),
        settings=Settings(device=device, batch_tokens=study.settings.batch_tokens),
        progress=study.progress,
    ).close()  # fmt: skip
    probes = probe_saes(
        path, list(trained), sites=[study.settings.source], settings=probe, model=model,
        device=device, replace=study.replace, progress=study.progress,
    )  # fmt: skip
    matches = []
    if match is not None:
        pairs = _pairs(trained)
        study.progress.say(_of_pairs(pairs, trained))
        for pair in pairs:
            matches += match_saes(
                path, pair, settings=match, opened=opened, progress=study.progress
            )
    with study.folder.writing():
        rows = _write(study, divided, trained, probe=probe, match=match, device=device)
    discard(study.scratch)
    return {"study": study.name, "arms": rows, "probes": probes, "matches": matches}


def _stale(study: _Study, opened: Sequence[Any]) -> bool:
    """Say whether the atlas has other SAEs of these names, which are to be replaced."""
    parts = study.folder.sound().parts
    there = {
        name: parts[f"sae/{name}"].table("SAE")["weights"][0].as_py()
        for name in (sae.info.name for sae in opened)
        if f"sae/{name}" in parts
    }
    return study.replace and any(
        there.get(s.info.name, s.info.weights) != s.info.weights for s in opened
    )


def _pairs(trained: Mapping[str, tuple[Arm, Facts | None]]) -> list[tuple[str, str]]:
    """Return each baseline with the other SAEs of its seed, and a few with those of the next.

    SAEs of a seed begin with the same weights, which alone makes counterparts. Across seeds
    they do not, and two baselines say what two trainings share anyhow.
    """
    bases = {arm.seed: name for name, (arm, _) in trained.items() if arm.name == "baseline"}
    same = [(bases[arm.seed], name) for name, (arm, _) in trained.items() if arm.name != "baseline"]
    seeds = sorted(bases)
    following = dict(zip(seeds, [*seeds[1:], seeds[0]], strict=True))
    crossed = [
        (bases[seed], name)
        for seed in seeds[:CROSSED]
        for name, (arm, _) in trained.items()
        if arm.seed == following[seed] != seed and arm.draw in (None, 0)
    ]
    once = {
        frozenset(pair): pair for pair in [*same, *crossed]
    }  # of two seeds, each is the other's next
    return list(once.values())


def _of_pairs(pairs: Sequence[tuple[str, str]], trained: Mapping[str, tuple[Arm, Facts]]) -> str:
    """Say what is matched with what."""
    seeds = {name: arm.seed for name, (arm, _) in trained.items()}
    crossed = sum(seeds[one] != seeds[other] for one, other in pairs)
    said = f"{len(pairs) - crossed} pairs of SAEs of one seed are matched"
    if crossed:
        return f"{said}, and {crossed} of two seeds, which do not share their first weights."
    return (
        f"{said}; they share their first weights, which alone makes counterparts. With two seeds or more "
        "some pairs across seeds are matched too."
    )


def _write(
    study: _Study,
    divided: Divided,
    trained: Mapping[str, tuple[Arm, Facts]],
    *,
    probe: ProbeSettings,
    match: MatchSettings | None,
    device: str,
) -> list[dict[str, Any]]:
    """Write the study's part, and return the rows of its table of SAEs with what they are like."""
    parts = study.folder.sound().parts
    said = {name: parts[f"sae/{name}"].manifest for name in trained}
    arms = [
        {"sae": name, "arm": arm.name, "seed": arm.seed, "draw": arm.draw, "k": study.settings.k,
         **asdict(facts)}
        for name, (arm, facts) in trained.items()
    ]  # fmt: skip
    model = study.reader.model
    settings = asdict(study.settings) | {
        "probe": asdict(probe),
        "match": None if match is None else asdict(match),
        "model": model.name,
        "contexts": asdict(study.reader.contexts),
        "device": device,
    }
    manifest = Manifest(
        kind=STUDY,
        name=study.name,
        version=VERSION,
        saes=tuple(trained),
        settings=settings,
        seed=study.settings.split_seed,
        sources={
            "model": {"name": model.name, "source": model.source, "revision": model.revision,
                      "weights": model.weights},
            "text": _asked(study.text),
            **{role: {"corpus": info.id, "source": info.source}
               for role, info in _infos(study, divided).items()},
            "left_out": {"documents in the atlas already": divided.left_out},
            "token_means": {"shrunk": next(
                (f.shrunk for arm, f in trained.values() if arm.name == "token-means"), None
            )},
        },
        dtypes={"model": model.dtype, "sae": "float32", "device": model.device.type},
        made_from={m.key: m.hash for m in said.values()},
    )  # fmt: skip
    counted = parts[f"statistics/{next(iter(trained))}"].table("SAE")["tokens"][0].as_py()
    tables = [("arms", _arms_table(arms)), ("split", _split_table(study, divided, counted))]
    write_part(study.folder.part(STUDY, study.name), manifest, tables)
    return [row | _measured(parts, row["sae"]) for row in arms]


def _asked(text: Text) -> dict[str, Any]:
    """Return the text as it was asked for, so that the same can be asked for again."""
    source = str(text.source) if isinstance(text.source, str | Path) else "memory"
    if source == str(demo_text().source):
        source = DEMO_TEXT
    return {
        "source": source, "name": text.name, "field": text.field, "split": text.split,
        "revision": text.revision, "split_on": text.split_on,
    }  # fmt: skip


def _measured(parts: Mapping[str, Any], sae: str) -> dict[str, Any]:
    """Return what an ingest found of an SAE."""
    fvu = parts[f"fidelity/{sae}"].table("SAE")["fvu"][0].as_py()
    (row,) = parts[f"statistics/{sae}"].table("SAE").to_pylist()
    return {"fvu": fvu} | {name: row[name] for name in ("l0", "dead_share")}


def _arms_table(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {"sae": pa.string(), "arm": pa.string(), "final_loss": pa.float64(),
             "input_variance": pa.float64(), "removed_share": pa.float64(), "shrunk": pa.float64()}  # fmt: skip
    return pa.Table.from_pylist(
        rows, schema=pa.schema([(name, kinds.get(name, pa.int64())) for name in rows[0]])
    )


def _infos(study: _Study, divided: Divided) -> dict[Role, CorpusInfo]:
    """Return what the documents of each side are; the corpus is the atlas' own by now."""
    own = Corpus.open(study.folder.corpus_file)
    return {role: divided.corpora.get(role, own).info for role in ROLES[:-1]} | {
        ROLES[-1]: own.info
    }


def _split_table(study: _Study, divided: Divided, counted: int) -> pa.Table:
    """Return the sides: documents and tokens of each."""
    rows = [
        {"role": role, "documents": info.documents, "tokens": divided.tokens.get(role, counted)}
        for role, info in _infos(study, divided).items()
    ]
    kinds = [("role", pa.string()), ("documents", pa.int64()), ("tokens", pa.int64())]
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))
