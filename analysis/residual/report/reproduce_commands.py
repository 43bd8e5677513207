"""The commands that make a report on dataset geometry again, from what parts say of how they were made."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from analysis.residual.report.findings import EXTREME, Findings, Mapped, SaeRecord
from analysis.residual.report.study import EMBEDDING, Study
from analysis.residual.settings import DEMO_TEXT, MATCH, PROBE, ResidualSettings
from analysis.transcoder.settings import TranscoderSettings
from atlas.cli.options import flags_for
from atlas.settings import settings_of
from ingest.demo.build import DEMO_SAES
from ingest.probe.settings import ProbeSettings
from ingest.text.atlas_corpus import Text

__all__ = ["commands", "without_verdict"]


def without_verdict(found: Findings, where: str) -> list[tuple[str, list[str]]]:
    """Return why parts allow no verdict, each with the commands that make them anew.

    Parameters
    ----------
    found
        What was found.
    where
        How the atlas is named in commands.
    """
    study = found.study
    if study is None:
        return []
    told = []
    if old := [p.sae for p in study.probed if p.draws is not None and p.documents is None]:
        told.append((
            f"Probes of {len(old)} SAEs were made by an earlier version, and do not say on how many documents "
            "they were validated, so they allow no verdict. To make them anew:",
            _probe(study, old, where),
        ))  # fmt: skip
    if study.probing.get("draws") == 0:
        told.append((
            "The probes have no draws of documents, so they allow no verdict. To make them anew with some:",
            _probe(study, [p.sae for p in study.probed], where),
        ))  # fmt: skip
    if study.old_means and EXTREME in set(study.arms["arm"]):
        *notes, command = _residual(study, where)
        told.append((
            "The token means of this study were made by an earlier version, so they allow no verdict. To make "
            "the study anew:",
            [*notes, f"{command} --replace"],
        ))  # fmt: skip
    return told


def _probe(study: Study, saes: Sequence[str], where: str) -> list[str]:
    """Return the command that probes SAEs of a study anew, as its chosen run was; notes come first."""
    usual, said = ProbeSettings(), dict(study.probing)
    silent = {name: getattr(usual, name) for name in ("scale", "train_share", "tolerance")}
    notes = _from_python(_otherwise(said, silent), "ProbeSettings")
    if said.get("c") is not None:
        said["penalty"] = None
    said["draws"] = said.get("draws") or usual.draws
    words = ["atlas", "probe", *saes, "--atlas", where, "--from", study.site]
    said |= {f"{name}s": (said[name],) for name in ("split", "kind") if name in said}
    words += flags_for(ProbeSettings, said, every=True)
    if study.sources.get("model", {}).get("source") == "memory":
        notes.append(_was_in_memory("model", "MODEL"))
        words += ["--model", "MODEL"]
    if said.get("validated_on") is not None:
        notes.append("# Another atlas validated: name its place for PATH.")
        words += ["--validate", "PATH"]
    return [*notes, shlex.join([*words, "--replace"])]


def commands(found: Findings, where: str) -> list[str]:
    """Return the commands that make the report again, from the atlas on; notes begin with ``#``."""
    study = found.study
    named = ["--atlas", where]
    lines = _begun(found, where)
    lines += [] if study is None else _residual(study, where)
    text: list[str] = []
    if not found.ingested and found.corpus.get("study") is None:
        text = _text_of(found.corpus, lines)  # maps alone began the atlas
    lines += _transcoders(found, where, text)
    probe = ["atlas", "probe", *named, "--from", found.source]
    if study is None:
        lines += [shlex.join(probe)] if found.ingested else []
    elif found.source != study.settings.get("source"):
        lines.append(shlex.join(["atlas", "probe", *study.arms["sae"], *probe[2:]]))
    usual = EMBEDDING if study is None else study.settings.get("source", EMBEDDING)
    options: list[tuple[str, Any]] = [("study", study.name)] if study is not None else []
    options += [("floor", name) for name in dict.fromkeys(found.floors.values())]
    options += [("from", None if found.source == usual else found.source), *found.asked.items()]
    words = [
        word for name, value in options if value is not None for word in (f"--{name}", str(value))
    ]
    return [*lines, shlex.join(["atlas", "report", "geometry", where, *words])]


def _begun(found: Findings, where: str) -> list[str]:
    """Say how the atlas and SAEs came about that are no study's, as notes."""
    corpus, study, ingested = found.corpus, found.study, dict(found.ingested)
    by = corpus.get("study")
    if by is not None and (study is None or by != study.name):
        tells = shlex.join(["atlas", "report", "geometry", where, "--study", by])
        return [f"# The atlas was begun by the study {by}; `{tells}` says by which command."]
    notes, begins = [], by is None
    if begins and _is_demo(corpus.get("source")) and _are_demo(ingested):
        notes.append(
            f"# The atlas was begun by `{shlex.join(['atlas', 'demo', '--atlas', where])}`."
        )
        ingested = {sae: made for sae, made in ingested.items() if sae not in DEMO_SAES}
        begins = False
    if not ingested:
        return notes
    what = "No study began the atlas" if begins else "Other SAEs were ingested too"
    text = _text_of(corpus, notes) if begins else []
    lines = []
    models = list(dict.fromkeys(made.model for made in ingested.values()))
    # Tokens are counted by the tokenizer of the first.
    models.sort(key=lambda model: _short(model) != _short(corpus.get("counted_by")))
    for model in models:
        words = ["atlas", "ingest", "--atlas", where, *_saes_of(model, ingested, notes), *text]
        lines.append(f"`{shlex.join(words)}`")
        text = []  # the atlas has it by then
    notes.append(
        f"# {what}: {', then '.join(lines)}, with the options of `atlas ingest` that parts do not tell (--context, --k, …)."
    )
    return notes


def _short(model: str | None) -> str:
    """Return the name by which an atlas has a model, from where it was opened."""
    return (model or "").rstrip("/").rsplit("/", 1)[-1]


def _are_demo(ingested: Mapping[str, SaeRecord]) -> bool:
    """Say whether all SAEs of `atlas demo` are there, each from the package."""
    return all(name in ingested and ingested[name].source == name for name in DEMO_SAES)


def _saes_of(model: str | None, ingested: Mapping[str, SaeRecord], notes: list[str]) -> list[str]:
    """Return the options that name the SAEs of a model, and the model."""
    words = []
    for sae, made in ingested.items():
        if made.model != model:
            continue
        if made.source in (None, "memory"):
            notes.append(_was_in_memory(f"SAE {sae}", "SAE"))
        words += ["--sae", _called(sae, made.source, "SAE")]
    if model == "memory":
        notes.append(_was_in_memory("model", "MODEL"))
        model = "MODEL"
    return words if model is None else [*words, "--model", model]


def _text_of(corpus: Mapping[str, Any], notes: list[str]) -> list[str]:
    """Return the options that name an atlas' text, but for what is usual."""
    text = corpus.get("source")
    known = text not in (None, "memory") and not _is_demo(text)
    if text in (None, "memory"):
        notes.append(_was_in_memory("text", "TEXT"))
    elif not known:
        notes.append("# The text is that of `atlas demo`: name its place for TEXT.")
    words = ["--text", str(text) if known else "TEXT"]
    usual = Text("")
    for name, flag in (*_OF_TEXT.items(), ("tokens_asked", "tokens")):
        if corpus.get(name) not in (None, getattr(usual, name, None)):
            words += [f"--{flag}", str(corpus[name])]
    return words


def _is_demo(text: str | None) -> bool:
    """Say whether a text is the package's, also where a part names it by the path of a machine."""
    return text == DEMO_TEXT or str(text).replace("\\", "/").endswith("ingest/demo/text.jsonl")


def _called(name: str, source: str | None, unknown: str) -> str:
    """Return ``SOURCE``, or ``NAME=SOURCE`` where it would not be called so anyway."""
    if source is None or source == "memory":
        return f"{name}={unknown}"
    folder = source.startswith((".", "/", "~")) or source.count("/") > 1
    if name == source or (folder and PurePath(source).name == name):
        return source
    return f"{name}={source}"


def _transcoders(found: Findings, where: str, text: Sequence[str]) -> list[str]:
    """Return a command for each group of models that were mapped alike; notes come before it.

    ``text`` are the options of the first of them, which name what it reads.
    """
    begin = ["atlas", "transcoder", "--atlas", where, "--from", found.source]
    if not found.mapped:
        return [shlex.join([*begin, *text, *(["--model", "MODEL"] if text else []), "--to", "all"])]
    first = found.corpus.get("counted_by")
    # The tokenizer of the first model counts the tokens.
    mapped = sorted(found.mapped, key=lambda one: one.model != first)
    groups: dict[tuple[str, ...], list[Mapped]] = {}
    for one in mapped:
        to = [word for target in one.targets for word in ("--to", target)]
        like = [] if one.like is None else ["--like", one.like]
        some = str(one.settings.get("documents") or "")
        groups.setdefault((some, *to, *_of_maps(one.settings), *like), []).append(one)
    lines = []
    for (some, *options), models in groups.items():
        names, given = [], []
        for one in models:
            if one.source == "memory" or (one.source is None and not one.read):
                lines.append(_was_in_memory(f"model {one.model}", "MODEL"))
                # One that an SAE reads is known by its weights, whatever it is called now.
                given += ["--model", "MODEL" if one.read else f"{one.model}=MODEL"]
            elif one.read:
                names.append(one.model)
            else:
                given += ["--model", _called(one.model, one.source, "MODEL")]
        if some:
            lines.append(
                f"# These maps are of some documents only ({some}), which no option says; from Python "
                "map_sites(documents=…) does."
            )
        lines.append(shlex.join([*begin[:2], *names, *begin[2:], *text, *given, *options]))
        text = []  # the atlas has it by then
    return lines


def _of_maps(said: Mapping[str, Any]) -> list[str]:
    """Return the options of `atlas transcoder` that differ from its defaults."""
    return flags_for(TranscoderSettings, said)


def _otherwise(said: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a part holds and that differ from the usual ones."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in usual.items()}
    return {k: said[k] for k, v in plain.items() if k in said and said[k] != v}


#: Those of the text, by how its source may be told.
_OF_TEXT = {"field": "field", "split": "split", "revision": "revision", "split_on": "split-on"}


def _residual(study: Study, where: str) -> list[str]:
    """Return the command that trains, ingests, probes and matches the SAEs of a study.

    What lay in memory has no name that a command could take: a note above says so.
    """
    said = study.settings
    from_text = study.sources.get("text") or study.sources.get("map", {})
    model = study.sources.get("model", {}).get("source") or said.get("model")
    text = from_text.get("source")
    notes, words = [], ["atlas", "residual", "--atlas", where]
    places = [("model", model)]
    if _is_demo(text):  # the command's default
        from_text = {}
    else:
        places.append(("text", text))
    for flag, value in places:
        if value is None or value == "memory":
            notes.append(_was_in_memory(flag, flag.upper()))
            value = flag.upper()
        words += [f"--{flag}", str(value)]
    options = {flag: from_text.get(name) for name, flag in _OF_TEXT.items()}
    options |= {"tokens": said.get("text_tokens")}
    for flag, value in options.items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            words += [f"--{flag}", str(value)]
    words += flags_for(ResidualSettings, said, every=True)
    if said.get("device") is not None:
        words += ["--device", str(said["device"])]
    words += ["--name", study.name]
    if "match" in said and said["match"] is None:
        words.append("--no-match")
    return [*notes, *_no_option(said), shlex.join(words)]


def _no_option(said: Mapping[str, Any]) -> list[str]:
    """Say which settings of a study differ from the usual and can be given from Python only, as notes."""
    usual = {s.name: s.default for s in settings_of(ResidualSettings) if s.flag is None}
    del usual["text_tokens"]
    if said.get("train_tokens") is not None:  # then these are not asked
        del usual["epochs"]
    of = {"ResidualSettings": _otherwise(said, usual)}
    for name, settings in (("probe", PROBE), ("match", MATCH)):
        flat = {f"{name}.{k}": v for k, v in asdict(settings).items()}
        of[f"residual_study(…, {name}=…)"] = _otherwise(said, flat)
    return [note for python, differ in of.items() for note in _from_python(differ, python)]


def _from_python(differ: Mapping[str, Any], python: str) -> list[str]:
    """Say of settings which Python gives them, as notes."""
    return [
        f"# {name} was {value}, which no option says; from Python {python} does."
        for name, value in differ.items()
    ]


def _was_in_memory(what: str, word: str) -> str:
    """Say that a thing has no name that a command could take, as a note."""
    return f"# The {what} was in memory: save it, and name its place for {word}."
