"""Requests of the command line: their defaults, and resumption of interrupted ones."""

import os
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path

from atlas.amounts import listed
from atlas.api import Atlas
from atlas.cli.selected_atlas import atlases_here, folder_of, which_atlas
from atlas.disk.folder import Folder
from atlas.errors import BadInput, RequestError
from atlas.progress import Progress
from atlas.studies.settings import read_settings
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.run import ingest
from ingest.match.settings import MatchSettings
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.atlas_corpus import Text

__all__ = ["folder_for", "resume_all", "run_command"]

# Tokens of the data set an SAE was trained on, if neither a text nor a number of tokens is requested.
DEFAULT_TOKENS = 200_000


def folder_for(requested: Path | None) -> Path:
    """Return the requested folder, the only atlas here, or the folder of a new atlas."""
    if requested is not None:
        return folder_of(str(requested))
    if default := os.environ.get("ATLAS"):
        return folder_of(default)
    if atlases_here():
        return folder_of(which_atlas(None))
    return Path("features.atlas")


def run_command(
    path: Path,
    *,
    saes: Sequence[str],
    text: Text | None,
    model: str | None,
    settings: Settings,
    match: MatchSettings | None,
    probe: Sequence[str],
    replace: bool,
    progress: Progress,
    found: bool = False,
) -> Atlas:
    """Ingest as requested; the default text is the atlas' own, or the SAE's training data set.

    With ``found``, nobody named the atlas, and the report states before any work which one is changed.
    """
    if not saes:
        raise BadInput(
            "No SAE was named; name at least one with `saes`, as in `saes='gemmascope-l20'`."
        )
    has_corpus = (path / "atlas.json").exists() and Folder.open(path).corpus is not None
    if found and has_corpus:
        progress.report(_adds_to(path, saes, own_text=text is None))
    if text is None and not has_corpus:
        source = _trained_on(saes[0])
        settings = changed(settings, tokens=settings.tokens or DEFAULT_TOKENS)
        progress.report(
            f"No `text`: using the first {settings.tokens:,} tokens of {source}, the SAE's training data."
        )
        text = Text(source)
    return ingest(
        path,
        saes=saes,
        text=text,
        model=model,
        settings=settings,
        match=match,
        probe=probe,
        replace=replace,
        progress=progress,
    )


def _adds_to(path: Path, saes: Sequence[str], *, own_text: bool) -> str:
    """State to which atlas the SAEs are added.

    An SAE of another model is not refused: an atlas may have several models, one model has different
    names in different sources, and `atlas rm` removes an SAE again.
    """
    stored = list(Folder.open(path).sound().saes)
    holds = f", which holds {listed(stored, 3)}" if stored else ""
    text = ", on the text of this atlas" if own_text else ""
    return f"Adds {listed(saes, 3)} to {path}{holds}{text}. For another atlas, pass its path."


def resume_all(path: Path, *, saes: Sequence[str], progress: Progress) -> Atlas:
    """Finish every interrupted run with the settings of its request.

    Raises
    ------
    RequestError
        If no run was interrupted, or a request used objects in memory.
    """
    if saes:
        raise BadInput("`resume` finishes earlier requests; omit either `saes` or `resume`.")
    requests = [Checkpoint(run).request() for run in Folder.open(path).runs()]
    if not requests:
        raise RequestError(f"No run in {path} was interrupted; there is nothing to resume.")
    for request in {str(r): r for r in requests}.values():
        if request["from_memory"]:
            raise RequestError(
                "The interrupted run used objects in memory; call ingest() again with the same objects."
            )
        ingest(
            path,
            saes=request["saes"],
            model=request["model"],
            settings=Settings(**{**request["settings"], "tokens": None}),
            match=read_settings(MatchSettings, request["match"]) if request.get("match") else None,
            probe=request.get("probe", ()),
            replace=request["replace"],
            progress=progress,
        )
    return Atlas.open(path, progress=progress)


def _trained_on(sae: str) -> str:
    info = open_sae(sae).info
    if info.dataset is None:
        raise BadInput(
            f"No text was named, and the metadata of {info.name} does not name its training data; "
            "name a text with `text`."
        )
    return f"hf:{info.dataset}"
