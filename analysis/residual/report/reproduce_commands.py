"""Commands that reproduce a report on dataset geometry, derived from the settings of stored parts."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from analysis.interpretability.settings import InterpretabilitySettings
from analysis.residual.report.findings import EXTREME, Findings, IngestedSae, Mapped
from analysis.residual.report.study import EMBEDDING, ResidualStudy
from analysis.residual.settings import DEMO_TEXT, MATCH, PROBE, ResidualSettings
from analysis.transcoder.settings import TranscoderSettings
from atlas.cli.options import flags_for
from atlas.studies.settings import settings_of
from ingest.demo.build import DEMO_SAES
from ingest.probe.settings import ProbeSettings
from ingest.text.atlas_corpus import Text

__all__ = ["commands", "without_verdict"]


def without_verdict(found: Findings, where: str) -> list[tuple[str, list[str]]]:
    """Return the reasons why stored parts allow no verdict, each with the commands that fix it.

    Parameters
    ----------
    found
        The numbers of the report.
    where
        Path of the atlas in commands.
    """
    study = found.study
    if study is None:
        return []
    reasons = []
    if old := [p.sae for p in study.probed if p.draws is not None and p.documents is None]:
        reasons.append(
            (
                f"Probes of {len(old)} SAEs were computed by an earlier version, which did not store the number of "
                "validation documents. They allow no verdict. To compute them again:",
                _probe(study, old, where),
            )
        )
    if study.probing.get("draws") == 0:
        reasons.append(
            (
                "The probes have no bootstrap draws of documents, so they allow no verdict. To compute them again with "
                "draws:",
                _probe(study, [p.sae for p in study.probed], where),
            )
        )
    if study.old_means and EXTREME in set(study.arms["arm"]):
        *notes, command = _residual(study, where)
        reasons.append(
            (
                "The token means of this study were computed by an earlier version, so they allow no verdict. To run the "
                "study again:",
                [*notes, f"{command} --replace"],
            )
        )
    return reasons


def _probe(study: ResidualStudy, saes: Sequence[str], where: str) -> list[str]:
    """Return the command that probes SAEs with the settings of the chosen run; notes come first."""
    usual, stored = ProbeSettings(), dict(study.probing)
    without_flag = {name: getattr(usual, name) for name in ("scale", "train_share", "tolerance")}
    notes = _from_python(_changed(stored, without_flag), "ProbeSettings")
    if stored.get("c") is not None:
        stored["penalty"] = None
    stored["draws"] = stored.get("draws") or usual.draws
    words = ["atlas", "probe", *saes, "--atlas", where, "--from", study.site]
    stored |= {f"{name}s": (stored[name],) for name in ("split", "kind") if name in stored}
    words += flags_for(ProbeSettings, stored, every=True)
    if study.sources.get("model", {}).get("source") == "memory":
        notes.append(_was_in_memory("model", "MODEL"))
        words += ["--model", "MODEL"]
    if stored.get("validated_on") is not None:
        notes.append("# The probes were validated on another atlas: replace PATH by its folder.")
        words += ["--validate", "PATH"]
    return [*notes, shlex.join([*words, "--replace"])]


def commands(found: Findings, where: str) -> list[str]:
    """Return the commands that reproduce the atlas and its report; notes begin with ``#``."""
    study = found.study
    named = ["--atlas", where]
    lines = _first_commands(found, where)
    lines += [] if study is None else _residual(study, where)
    text: list[str] = []
    if not found.ingested and found.corpus.get("study") is None:
        text = _text_of(found.corpus, lines)  # `atlas transcoder` created the atlas
    lines += _transcoders(found, where, text)
    probe = ["atlas", "probe", *named, "--from", found.source]
    if study is None:
        lines += [shlex.join(probe)] if found.ingested else []
    elif found.source != study.settings.get("source"):
        lines.append(shlex.join(["atlas", "probe", *study.arms["sae"], *probe[2:]]))
    if study is not None and found.marks:
        flags = flags_for(InterpretabilitySettings, found.mark_settings)
        lines.append(shlex.join(["atlas", "describe", *study.arms["sae"], *named, *flags]))
    usual = EMBEDDING if study is None else study.settings.get("source", EMBEDDING)
    options: list[tuple[str, Any]] = [("study", study.name)] if study is not None else []
    options += [("floor", name) for name in dict.fromkeys(found.floors.values())]
    options += [("from", None if found.source == usual else found.source), *found.options.items()]
    words = [
        word for name, value in options if value is not None for word in (f"--{name}", str(value))
    ]
    return [*lines, shlex.join(["atlas", "report", "geometry", where, *words])]


def _first_commands(found: Findings, where: str) -> list[str]:
    """Return notes on how the atlas was created, and on the SAEs that no study trained."""
    corpus, study, ingested = found.corpus, found.study, dict(found.ingested)
    by = corpus.get("study")
    if by is not None and (study is None or by != study.name):
        command = shlex.join(["atlas", "report", "geometry", where, "--study", by])
        return [f"# The study {by} created the atlas; `{command}` prints its command."]
    notes, begins = [], by is None
    if begins and _is_demo(corpus.get("source")) and _are_demo(ingested):
        notes.append(
            f"# The atlas was created by `{shlex.join(['atlas', 'demo', '--atlas', where])}`."
        )
        ingested = {sae: one for sae, one in ingested.items() if sae not in DEMO_SAES}
        begins = False
    if not ingested:
        return notes
    what = "No study created the atlas" if begins else "Other SAEs were ingested too"
    text = _text_of(corpus, notes) if begins else []
    lines = []
    models = list(dict.fromkeys(one.model for one in ingested.values()))
    # The tokenizer of the first model counts the tokens.
    models.sort(key=lambda model: _short(model) != _short(corpus.get("counted_by")))
    for model in models:
        words = ["atlas", "ingest", "--atlas", where, *_saes_of(model, ingested, notes), *text]
        lines.append(f"`{shlex.join(words)}`")
        text = []  # stored in the atlas by then
    notes.append(
        f"# {what}: {', then '.join(lines)}. Add the options of `atlas ingest` that parts do not store (--context, --k, …)."
    )
    return notes


def _short(model: str | None) -> str:
    """Return the name of a model in an atlas, from the source it was opened from."""
    return (model or "").rstrip("/").rsplit("/", 1)[-1]


def _are_demo(ingested: Mapping[str, IngestedSae]) -> bool:
    """Return whether all SAEs of `atlas demo` are present, each from the package."""
    return all(name in ingested and ingested[name].source == name for name in DEMO_SAES)


def _saes_of(model: str | None, ingested: Mapping[str, IngestedSae], notes: list[str]) -> list[str]:
    """Return the options that name the SAEs of a model, and the model."""
    words = []
    for sae, one in ingested.items():
        if one.model != model:
            continue
        if one.source in (None, "memory"):
            notes.append(_was_in_memory(f"SAE {sae}", "SAE"))
        words += ["--sae", _called(sae, one.source, "SAE")]
    if model == "memory":
        notes.append(_was_in_memory("model", "MODEL"))
        model = "MODEL"
    return words if model is None else [*words, "--model", model]


def _text_of(corpus: Mapping[str, Any], notes: list[str]) -> list[str]:
    """Return the options for the text of an atlas, without defaults."""
    text = corpus.get("source")
    known = text not in (None, "memory") and not _is_demo(text)
    if text in (None, "memory"):
        notes.append(_was_in_memory("text", "TEXT"))
    elif not known:
        notes.append("# The text is that of `atlas demo`: replace TEXT by its path.")
    words = ["--text", str(text) if known else "TEXT"]
    usual = Text("")
    for name, flag in (*_OF_TEXT.items(), ("tokens_asked", "tokens")):
        if corpus.get(name) not in (None, getattr(usual, name, None)):
            words += [f"--{flag}", str(corpus[name])]
    return words


def _is_demo(text: str | None) -> bool:
    """Return whether a text is that of the package, by its name or by a path of any machine."""
    return text == DEMO_TEXT or str(text).replace("\\", "/").endswith("ingest/demo/text.jsonl")


def _called(name: str, source: str | None, unknown: str) -> str:
    """Return ``SOURCE``, or ``NAME=SOURCE`` if the default name differs."""
    if source is None or source == "memory":
        return f"{name}={unknown}"
    folder = source.startswith((".", "/", "~")) or source.count("/") > 1
    if name == source or (folder and PurePath(source).name == name):
        return source
    return f"{name}={source}"


def _transcoders(found: Findings, where: str, text: Sequence[str]) -> list[str]:
    """Return a command for each group of models with equal settings; notes come before it.

    ``text`` are the options of the first command that name the text.
    """
    begin = ["atlas", "transcoder", "--atlas", where, "--from", found.source]
    if not found.mapped:
        return [shlex.join([*begin, *text, *(["--model", "MODEL"] if text else []), "--to", "all"])]
    first = found.corpus.get("counted_by")
    # The first model's tokenizer counts the tokens.
    mapped = sorted(found.mapped, key=lambda one: one.model != first)
    groups: dict[tuple[str, ...], list[Mapped]] = {}
    for one in mapped:
        to = [word for target in one.targets for word in ("--to", target)]
        like = [] if one.like is None else ["--like", one.like]
        some = str(one.settings.get("documents") or "")
        groups.setdefault((some, *to, *_of_maps(one.settings), *like), []).append(one)
    lines = []
    for (some, *options), models in groups.items():
        names, unread = [], []
        for one in models:
            if one.source == "memory" or (one.source is None and not one.read):
                lines.append(_was_in_memory(f"model {one.model}", "MODEL"))
                # The atlas recognizes a model that an SAE reads by its weights, not its name.
                unread += ["--model", "MODEL" if one.read else f"{one.model}=MODEL"]
            elif one.read:
                names.append(one.model)
            else:
                unread += ["--model", _called(one.model, one.source, "MODEL")]
        if some:
            lines.append(
                f"# These maps use some documents only ({some}). The command line has no option for this; in Python, "
                "use map_sites(documents=…)."
            )
        lines.append(shlex.join([*begin[:2], *names, *begin[2:], *text, *unread, *options]))
        text = []  # stored in the atlas by then
    return lines


def _of_maps(stored: Mapping[str, Any]) -> list[str]:
    """Return the options of `atlas transcoder` that differ from its defaults."""
    return flags_for(TranscoderSettings, stored)


def _changed(stored: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored settings that differ from the defaults."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in usual.items()}
    return {k: stored[k] for k, v in plain.items() if k in stored and stored[k] != v}


#: Options of the text, by the key of its stored record.
_OF_TEXT = {"field": "field", "split": "split", "revision": "revision", "split_on": "split-on"}


def _residual(study: ResidualStudy, where: str) -> list[str]:
    """Return the command that trains, ingests, probes and matches the SAEs of a study.

    Objects that were in memory have no path for a command; a note before the command reports this.
    """
    stored = study.settings
    from_text = study.sources.get("text") or study.sources.get("map", {})
    model = study.sources.get("model", {}).get("source") or stored.get("model")
    text = from_text.get("source")
    notes, words = [], ["atlas", "residual", "--atlas", where]
    sources = [("model", model)]
    if _is_demo(text):  # the command's default
        from_text = {}
    else:
        sources.append(("text", text))
    for flag, value in sources:
        if value is None or value == "memory":
            notes.append(_was_in_memory(flag, flag.upper()))
            value = flag.upper()
        words += [f"--{flag}", str(value)]
    options = {flag: from_text.get(name) for name, flag in _OF_TEXT.items()}
    options |= {"tokens": stored.get("text_tokens")}
    for flag, value in options.items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            words += [f"--{flag}", str(value)]
    words += flags_for(ResidualSettings, stored, every=True)
    if stored.get("device") is not None:
        words += ["--device", str(stored["device"])]
    words += ["--name", study.name]
    if "match" in stored and stored["match"] is None:
        words.append("--no-match")
    return [*notes, *_no_option(stored), shlex.join(words)]


def _no_option(stored: Mapping[str, Any]) -> list[str]:
    """Return notes on changed settings of a study that have no option on the command line."""
    usual = {s.name: s.default for s in settings_of(ResidualSettings) if s.flag is None}
    del usual["text_tokens"]
    if stored.get("train_tokens") is not None:  # then epochs have no effect
        del usual["epochs"]
    changed = {"ResidualSettings": _changed(stored, usual)}
    for name, settings in (("probe", PROBE), ("match", MATCH)):
        flat = {f"{name}.{k}": v for k, v in asdict(settings).items()}
        changed[f"residual_study(…, {name}=…)"] = _changed(stored, flat)
    return [note for python, own in changed.items() for note in _from_python(own, python)]


def _from_python(changed: Mapping[str, Any], python: str) -> list[str]:
    """Return notes on settings that only Python can set."""
    return [
        f"# {name} was {value}. The command line has no option for this; in Python, use {python}."
        for name, value in changed.items()
    ]


def _was_in_memory(what: str, word: str) -> str:
    """Return a note that an object was in memory and has no path."""
    return f"# The {what} was in memory: save it, and replace {word} by its path."
