"""Which pairs of SAEs to match: those asked for, less those that are matched already."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.disk import discard
from atlas.errors import BadInput, UnknownName
from atlas.folder import Folder, Sound
from atlas.parts import write_part
from atlas.progress import SILENT, Progress
from atlas.settings import read_settings
from ingest.match.inputs import open_side
from ingest.match.pipeline import VERSION, compare
from ingest.match.settings import MatchSettings
from ingest.sae.autoencoder import Autoencoder
from ingest.text.corpus import Corpus

__all__ = ["match_documents", "match_name", "match_saes"]


def match_name(a: str, b: str) -> str:
    """Return the name of the part that matches two SAEs: theirs, sorted, with a ``+`` between."""
    return "+".join(sorted((a, b)))


def match_saes(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: MatchSettings = MatchSettings(),  # noqa: B008 - frozen
    memory: int = 4 * 2**30,
    stale: bool = False,
    replace: bool = False,
    keep: bool = False,
    opened: Sequence[Autoencoder] = (),
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Match every two of some SAEs of an atlas from their kept codes; no model is run.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of two SAEs or more; all whose codes are kept, if None.
    settings
        How they are matched.
    memory
        Bytes that may be held beside the lists of matches and the draws' best correlations.
    stale
        Only pairs that were matched before and have had an SAE made anew since, each with
        the settings it had.
    replace
        Match again what is matched already with these settings.
    keep
        Keep what is matched already, also with other settings.
    opened
        SAEs that are open already, whose weights then need not be read again.
    progress
        Told how far the work is.

    Returns
    -------
    list of dict
        A row for each pair asked for: the properties of its edge COMPARED_WITH, with
        ``a``, ``b`` and ``left_out``: how many of what were left out.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If the codes of one were not kept.
    BadInput
        If there is nothing to match.
    """
    folder = Folder.open(Path(atlas))
    with folder.writing():
        sound = folder.sound()
        if stale:
            asked = _stale(folder, sound, settings, progress)
        else:
            asked = [(pair, settings) for pair in _pairs(sound, saes, progress)]
        rows = []
        for pair, how in asked:
            if replace or not _is_there(sound, pair, how, keep=keep, progress=progress):
                _match(
                    folder,
                    sound,
                    pair,
                    settings=how,
                    memory=memory,
                    opened=opened,
                    progress=progress,
                )
            rows.append(_summary(folder.sound(), pair))
    return rows


def match_documents(
    folder: Folder,
    sae_a: str,
    sae_b: str,
    *,
    documents: NDArray[np.int64],
    settings: MatchSettings = MatchSettings(),  # noqa: B008 - frozen
    memory: int = 4 * 2**30,
    progress: Progress = SILENT,
) -> pa.Table:
    """Match two SAEs of an atlas on some documents only; nothing is written into the atlas.

    Parameters
    ----------
    folder
        The atlas.
    sae_a, sae_b
        Names of the SAEs.
    documents
        Numbers of the documents.
    settings
        How they are matched.
    memory
        Bytes that may be held, as in ``match_saes``.
    progress
        Told how far the work is.

    Returns
    -------
    The table MATCHES that a match of these documents alone would have; as there, the edges
    run from the SAE whose name sorts first.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If the codes of one were not kept.
    BadInput
        If it is one SAE twice.
    """
    sound = folder.sound()
    (names,) = _pairs(sound, [sae_a, sae_b], progress)
    sides = (open_side(folder, sound, names[0]), open_side(folder, sound, names[1]))
    with TemporaryDirectory(prefix="match-") as scratch:
        found = compare(
            sides, Corpus.open(folder.corpus_file), settings,
            memory=memory, scratch=Path(scratch), documents=documents, progress=progress,
        )  # fmt: skip
    return dict(found.tables)["MATCHES"]


def _pairs(
    sound: Sound, saes: Sequence[str] | None, progress: Progress
) -> Iterator[tuple[str, str]]:
    names = sound.saes if saes is None else list(saes)
    for name in names:
        if name not in sound.saes:
            raise UnknownName("SAE", name, known=sound.saes, hint="`atlas list` shows them.")
    if saes is None:
        names = [name for name in names if _has_codes(sound, name, progress)]
    if len(names) < 2:
        which = "SAEs of this atlas whose codes are kept" if saes is None else "SAEs"
        raise BadInput(
            f"To match takes two {which} or more; there is {', '.join(names) or 'none'}."
        )
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise BadInput(f"{twice[0]} was named twice; an SAE is not matched with itself.")
    for a, b in itertools.combinations(names, 2):
        yield min(a, b), max(a, b)


def _has_codes(sound: Sound, name: str, progress: Progress) -> bool:
    kept = f"codes/{name}" in sound.parts
    if not kept:
        progress.say(f"{name} is passed over: its codes were not kept.")
    return kept


def _stale(
    folder: Folder, sound: Sound, settings: MatchSettings, progress: Progress
) -> list[tuple[tuple[str, str], MatchSettings]]:
    """Return the pairs whose match is stale, broken or of another version, and how each was made."""
    parts, broken = folder.all_parts()
    had = {p.manifest.key: p.manifest for p in parts if p.manifest.kind == "match"}
    older = {key for key, manifest in had.items() if manifest.version != VERSION}
    found = []
    for key in sorted({*sound.stale, *broken} | older):
        kind, _, name = key.partition("/")
        a, _, b = name.partition("+")
        here = kind == "match" and a in sound.saes and b in sound.saes
        if here and _has_codes(sound, a, progress) and _has_codes(sound, b, progress):
            how = read_settings(MatchSettings, had[key].settings) if key in had else settings
            found.append(((a, b), how))
    return found


def _is_there(
    sound: Sound,
    pair: tuple[str, str],
    settings: MatchSettings,
    *,
    keep: bool,
    progress: Progress,
) -> bool:
    part = sound.parts.get(f"match/{match_name(*pair)}")
    if part is None or part.manifest.version != VERSION:
        return False
    same, names = dict(part.manifest.settings) == asdict(settings), " and ".join(pair)
    if same:
        progress.say(f"{names} are matched already, with the same settings.")
    elif keep:
        progress.say(f"{names} are matched already, with other settings; that match is kept.")
    else:
        progress.say(f"{names} were matched with other settings; that match is replaced.")
    return same or keep


def _match(
    folder: Folder,
    sound: Sound,
    names: tuple[str, str],
    *,
    settings: MatchSettings,
    memory: int,
    opened: Sequence[Autoencoder],
    progress: Progress,
) -> None:
    a, b = (open_side(folder, sound, name) for name in names)
    folder.cache.mkdir(exist_ok=True)
    for left in folder.cache.glob("match-*"):  # by a process that was killed
        discard(left)
    with TemporaryDirectory(prefix="match-", dir=folder.cache) as scratch:
        found = compare(
            (a, b), Corpus.open(folder.corpus_file), settings,
            memory=memory, scratch=Path(scratch), opened=opened, progress=progress,
        )  # fmt: skip
        write_part(folder.part("match", match_name(*names)), found.manifest, found.tables)


def _summary(sound: Sound, pair: tuple[str, str]) -> dict[str, Any]:
    part = sound.parts[f"match/{match_name(*pair)}"]
    (row,) = part.table("COMPARED_WITH").to_pylist()
    ends = {"a": row.pop("source"), "b": row.pop("target")}
    return {**ends, **row, "left_out": dict(part.manifest.sources["left_out"])}
