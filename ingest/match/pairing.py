"""Which pairs of SAEs to match: those asked for, less those that are matched already."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atlas.disk import discard
from atlas.errors import BadInput, UnknownName
from atlas.folder import Folder, Sound
from atlas.parts import write_part
from atlas.progress import SILENT, Progress
from ingest.corpus import Corpus
from ingest.match.compare import VERSION, compare
from ingest.match.settings import MatchSettings
from ingest.match.sides import open_side
from ingest.saes import Autoencoder

__all__ = ["match_name", "match_saes"]


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
        Bytes that the sums over pairs may take.
    stale
        Only pairs that were matched before and have had an SAE made anew since, each with
        the settings it had.
    replace
        Match again what is matched already.
    opened
        SAEs that are open already, whose weights then need not be read again.
    progress
        Told how far the work is.

    Returns
    -------
    list of dict
        A row for each pair asked for: the properties of its edge COMPARED_WITH, with
        ``a`` and ``b``.

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
            asked = _stale(folder, sound, settings)
        else:
            asked = [(pair, settings) for pair in _pairs(sound, saes)]
        rows = []
        for pair, how in asked:
            if replace or not _is_there(sound, pair, how, progress):
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


def _pairs(sound: Sound, saes: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    names = [n for n in sound.saes if f"codes/{n}" in sound.parts] if saes is None else list(saes)
    for name in names:
        if name not in sound.saes:
            raise UnknownName("SAE", name, known=sound.saes, hint="`atlas list` shows them.")
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise BadInput(
            f"Two different SAEs or more can be matched; {', '.join(names) or 'none'} was given "
            "(without names: those of the atlas whose codes are kept)."
        )
    for a, b in itertools.combinations(names, 2):
        yield min(a, b), max(a, b)


def _stale(
    folder: Folder, sound: Sound, settings: MatchSettings
) -> list[tuple[tuple[str, str], MatchSettings]]:
    """Return the pairs of SAEs that are here still and whose match is stale or broken, and how it was made."""
    parts, broken = folder.all_parts()
    had = {p.manifest.key: p.manifest.settings for p in parts}
    found = []
    for key in sorted({*sound.stale, *broken}):
        kind, _, name = key.partition("/")
        a, _, b = name.partition("+")
        if kind == "match" and a in sound.saes and b in sound.saes:
            found.append(((a, b), MatchSettings(**had[key]) if key in had else settings))
    return found


def _is_there(
    sound: Sound, pair: tuple[str, str], settings: MatchSettings, progress: Progress
) -> bool:
    part = sound.parts.get(f"match/{match_name(*pair)}")
    if part is None or part.manifest.version != VERSION:
        return False
    if dict(part.manifest.settings) != asdict(settings):
        return False
    progress.say(f"{' and '.join(pair)} are matched already, with the same settings.")
    return True


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
    return {"a": row.pop("source"), "b": row.pop("target"), **row}
