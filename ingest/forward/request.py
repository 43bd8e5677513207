"""What was asked on the command line, made into an ingest: defaults, data sets, resumption."""

import os
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path

from atlas.api import Atlas
from atlas.cli.output import atlases_here, folder_of, which_atlas
from atlas.errors import BadInput, RequestError
from atlas.folder import Folder
from atlas.progress import Progress
from atlas.settings import read_settings
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.run import ingest
from ingest.match.settings import MatchSettings
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.atlas_corpus import Text

__all__ = ["folder_for", "resume_all", "run_command"]

# Of the data set an SAE was trained on, when no text and no number was named.
DEFAULT_TOKENS = 200_000


def folder_for(given: Path | None) -> Path:
    """Return the folder that was named, the only atlas here, or the one to begin."""
    if given is not None:
        return folder_of(str(given))
    if "ATLAS" in os.environ or atlases_here():
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
) -> Atlas:
    """Ingest as asked; without a text, the atlas' own, or the data set the SAE was trained on."""
    if not saes:
        raise BadInput(
            "No SAE was named; name at least one with --sae, as in --sae gemmascope-l20."
        )
    begun = (path / "atlas.json").exists() and Folder.open(path).corpus is not None
    if text is None and not begun:
        source = _trained_on(saes[0])
        settings = changed(settings, tokens=settings.tokens or DEFAULT_TOKENS)
        progress.report(
            f"No --text: the first {settings.tokens:,} tokens of {source}, which the SAE saw."
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


def resume_all(path: Path, *, saes: Sequence[str], progress: Progress) -> Atlas:
    """Finish every run that was cut short, as it was asked.

    Raises
    ------
    RequestError
        If nothing was cut short, or what was asked lived in memory.
    """
    if saes:
        raise BadInput("--resume finishes what was asked before; leave --sae out, or --resume.")
    requests = [Checkpoint(run).request() for run in Folder.open(path).runs()]
    if not requests:
        raise RequestError(f"Nothing in {path} was cut short; there is nothing to resume.")
    for request in {str(r): r for r in requests}.values():
        if request["from_memory"]:
            raise RequestError(
                "The run that was cut short used objects in memory; call ingest() again with the same ones."
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
            f"No text was named, and the metadata of {info.name} does not say what it was trained on; "
            "name one with --text."
        )
    return f"hf:{info.dataset}"
