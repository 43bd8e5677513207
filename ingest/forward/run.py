"""One ingest, from request to parts.

The steps are: open the SAEs and their models and check that they fit; read the text;
determine the pending work. Then, for each group of SAEs that one run of a model
serves: the pass, with a checkpoint per shard; the reductions; the parts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from dataclasses import replace as replace_fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.progress import SILENT, Progress
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.estimate import estimate
from ingest.forward.format_check import report_flips
from ingest.forward.inputs import check_floor_of, named_saes, open_groups
from ingest.forward.part_writer import PartWriter
from ingest.forward.pending_work import pending_work
from ingest.forward.shard_runner import ShardRunner, recompute_reductions
from ingest.forward.shards import Group
from ingest.match.settings import MatchSettings
from ingest.model.language_model import LanguageModel
from ingest.precision import ieee_float32
from ingest.probe.settings import ALL
from ingest.reduce import on_activations, on_codes
from ingest.sae.autoencoder import Autoencoder
from ingest.settings import Settings
from ingest.text.atlas_corpus import Text, beginning, own_corpus
from ingest.text.corpus import Corpus
from ingest.text.tokenization import token_texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ingest", "ingest_locked"]


def ingest(
    atlas: str | Path,
    *,
    saes: Sequence[object] | Mapping[str, object],
    text: "Text | str | Path | Sequence[str] | None" = None,
    model: "str | Path | PreTrainedModel | LanguageModel | None" = None,
    tokenizer: object | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    match: MatchSettings | None = MatchSettings(),  # noqa: B008 - frozen
    probe: Sequence[str] = (),
    replace: bool = False,
    progress: Progress = SILENT,
) -> Atlas:
    """Run SAEs over a text and write the results to an atlas.

    Parameters
    ----------
    atlas
        The folder of the atlas; it is created if it does not exist.
    saes
        Each a short name, ``release:sae_id``, a local folder, or a sae-lens object. To choose
        their names in the atlas, pass a mapping, ``{"mine": sae}``, or ``"NAME=SOURCE"``. A string is one SAE.
    text
        The text to read. An atlas has one corpus: None uses the existing one.
    model
        The model, by name, folder or in memory; each SAE's own if None.
    tokenizer
        The tokenizer of a model in memory.
    settings
        The settings of the ingest.
    match
        How every pair of the requested SAEs is matched at the end; None for no
        matching.
    probe
        Sites of the model from which every feature is predicted at the end, as
        ``probe_saes`` does: ``("hook_embed",)``.
    replace
        Replace SAEs that the atlas already has.
    progress
        Shows how far the work is.

    Returns
    -------
    Atlas
        The atlas, open for reading.

    Raises
    ------
    AtlasError
        One of the classes in ``atlas.errors``; finished work is not lost.

    Examples
    --------
    >>> from ingest import Settings, ingest
    >>> atlas = ingest(
    ...     "girl.atlas",
    ...     saes={"mine": "tiny-a-l1-s0"},  # or an SAE of sae-lens in memory
    ...     text=["Once upon a time there was a girl.", "She had a red ball."],
    ...     settings=Settings(device="cpu"),
    ... )
    >>> atlas.saes
    ['mine']
    """
    saes = named_saes(saes)
    groups = open_groups(saes, model, tokenizer=tokenizer, settings=settings, progress=progress)
    for group in groups:
        for site in probe:
            if site != ALL:
                group.model.site(site)  # reports a wrong name before the work
    request = _request(saes, model, tokenizer, settings, match=match, probe=probe, replace=replace)
    with beginning(Path(atlas)) as folder:
        _ingest_groups(
            folder, groups, text, settings, request=request, replace=replace, progress=progress
        )
    if match is not None:
        _match(folder, [s for g in groups for s in g.saes], settings, match, progress)
    for group in groups if probe else ():
        _probe(folder, group, settings, sites=probe, progress=progress)
    _report_stale(folder, progress)
    return Atlas.open(folder.path, progress=progress)


def ingest_locked(
    folder: Folder,
    *,
    saes: Sequence[Autoencoder],
    model: LanguageModel,
    settings: Settings,
    replace: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Run SAEs over the text of an atlas whose write lock is held, such as within a study.

    Parameters
    ----------
    folder
        The folder of the atlas; the caller holds its lock.
    saes, model, settings, replace, progress
        See ``ingest``. The SAEs are neither matched nor probed.
    """
    groups = open_groups(saes, model, tokenizer=None, settings=settings, progress=progress)
    request = _request(saes, model, None, settings, match=None, probe=(), replace=replace)
    _ingest_groups(
        folder, groups, None, settings, request=request, replace=replace, progress=progress
    )
    _report_stale(folder, progress)


@ieee_float32()
def _ingest_groups(
    folder: Folder,
    groups: Sequence[Group],
    text: "Text | str | Path | Sequence[str] | None",
    settings: Settings,
    *,
    request: dict[str, Any],
    replace: bool,
    progress: Progress,
) -> None:
    check_floor_of(settings, folder.sound())
    corpus = own_corpus(
        folder,
        text,
        tokens=settings.tokens,
        tokenizer=groups[0].model.tokenizer,
        model=groups[0].model.name,
        progress=progress,
    )
    for group in groups:
        _ingest_group(
            folder, group, corpus, settings, request=request, replace=replace, progress=progress
        )


def _match(
    folder: Folder,
    saes: Sequence[Autoencoder],
    settings: Settings,
    match: MatchSettings,
    progress: Progress,
) -> None:
    """Match every pair of the SAEs whose codes are stored."""
    names = [sae.info.name for sae in saes]
    if len(names) < 2:
        return
    # Imports SciPy's statistics, which takes as long as a short ingest.
    from ingest.match.study import match_saes

    parts = folder.sound().parts
    if skipped := [n for n in names if f"codes/{n}" not in parts]:
        progress.report(f"Not matched, since the codes are not stored: {', '.join(skipped)}.")
    names = [n for n in names if n not in skipped]
    if len(names) > 1:
        match_saes(
            folder.path,
            names,
            settings=match,
            memory=settings.memory,
            reuse=True,
            opened=saes,
            progress=progress,
        )


def _probe(
    folder: Folder,
    group: Group,
    settings: Settings,
    *,
    sites: Sequence[str],
    progress: Progress,
) -> None:
    """Probe the SAEs of a group whose codes are stored."""
    from ingest.probe.study import probe_saes  # imports scikit-learn

    parts = folder.sound().parts
    names = [sae.info.name for sae in group.saes]
    if skipped := [n for n in names if f"codes/{n}" not in parts]:
        progress.report(f"Not probed, since the codes are not stored: {', '.join(skipped)}.")
    if names := [n for n in names if n not in skipped]:
        # A model from files may be loaded without its upper blocks; one in memory has all blocks.
        probe_saes(
            folder.path,
            names,
            sites=sites,
            memory=settings.memory,
            device=settings.device,
            model=group.model if group.model.source == "memory" else None,
            progress=progress,
        )


def _report_stale(folder: Folder, progress: Progress) -> None:
    """Report the parts that are stale because an SAE was replaced."""
    stale = folder.sound().stale
    for key, why in sorted(stale.items()):
        if not key.startswith(("match/", "probe/")):
            progress.report(
                f"Stale, and excluded from the graph: {key}, since {why}. "
                "Compute it again, or remove it with `atlas rm`."
            )
    matches = [key for key in sorted(stale) if key.startswith("match/")]
    if matches:
        named = ", ".join(key.removeprefix("match/").replace("+", " and ") for key in matches)
        progress.report(
            f"Stale, and excluded from the graph: the matches of {named}. "
            "`atlas match --stale` computes them again."
        )
    probes = sorted(
        {k.removeprefix("probe/").split("@")[0] for k in stale if k.startswith("probe/")}
    )
    if probes:
        progress.report(
            f"Stale, and excluded from the graph: probes of {', '.join(probes)}. "
            "Run the same `atlas probe` again."
        )


def _ingest_group(
    folder: Folder,
    group: Group,
    corpus: Corpus,
    settings: Settings,
    *,
    request: dict[str, Any],
    replace: bool,
    progress: Progress,
) -> None:
    delivery = PartWriter(folder, folder.sound(), group, corpus.info)
    delivery.check_shared()
    todo = pending_work(delivery, settings, replace=replace, progress=progress)
    texts = partial(token_texts, group.model.tokenizer)
    for sae, missing in todo.reduce:
        recompute_reductions(
            sae, missing, delivery, settings=settings, texts=texts, progress=progress
        )
    if todo.run is None:
        return
    runs = {
        sae.info.name: Checkpoint(folder.run(_run_id(sae, delivery, settings)))
        for sae in todo.run.saes
    }
    for name, run in runs.items():
        if damaged := run.drop_damaged():
            progress.report(
                f"The unfinished run of {name} is damaged ({', '.join(damaged)}); these shards are computed "
                "again."
            )
    work = ShardRunner(todo.run, corpus, runs, settings)
    expected = estimate(work, folder=folder.path, progress=progress)
    delivery = replace_fields(delivery, flips=report_flips(todo.run, corpus, progress))
    for name, run in runs.items():
        folder.discard_runs(name, but=run.folder)
        run.start(request)
    pace = expected.pace(progress=progress)
    work.run(progress, expected=expected, pace=pace)
    for sae in todo.run.saes:
        work.deliver(sae, delivery, texts=texts, expected=expected, pace=pace)


def _run_id(sae: Autoencoder, delivery: PartWriter, settings: Settings) -> str:
    """Return a name that hashes all inputs of the shards, so that the same command finds the run."""
    core = {
        "origin": delivery.sae_manifest(sae.info).origin,
        "shard_blocks": settings.shard_blocks,
        "keep_codes": settings.keep_codes,
        "seed": settings.seed,
        "versions": {r.name: r.version for r in (*on_codes(settings), *on_activations())},
    }
    digest = hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()
    return f"{sae.info.name}-{digest[:12]}"


def _request(
    saes: Sequence[object],
    model: object,
    tokenizer: object,
    settings: Settings,
    *,
    match: MatchSettings | None,
    probe: Sequence[str],
    replace: bool,
) -> dict[str, Any]:
    """Return the request to store; a request with objects in memory cannot be resumed from disk."""
    inputs = [*saes, model, tokenizer]
    return {
        "saes": [_portable_name(s) for s in saes],
        "model": _portable_name(model),
        "settings": asdict(settings),
        "match": match and asdict(match),
        "probe": list(probe),
        "replace": replace,
        "from_memory": not all(isinstance(i, str | Path | None) for i in inputs),
    }


def _portable_name(value: object) -> str | None:
    """Return a name unchanged, and an existing path as an absolute path."""
    if not isinstance(value, str | Path):
        return None
    name, equals, source = str(value).rpartition("=")
    path = Path(source).expanduser()
    return f"{name}{equals}{path.resolve() if path.exists() else source}"
