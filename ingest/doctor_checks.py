"""What this room tells the doctor: the device, the demo, and whether the text and the runs are whole."""

from collections.abc import Iterator
from pathlib import Path

from atlas.errors import AtlasError
from atlas.folder import Folder
from atlas.plugins import Check

__all__ = ["checks"]


def checks(path: Path | None) -> Iterator[Check]:
    """Yield what this room finds.

    Parameters
    ----------
    path
        The folder of the atlas asked about; None for the installation alone.
    """
    yield _device()
    yield _demo()
    if path is not None:
        yield from _text(path)
        yield from _incomplete(path)
        yield from _stale_matches(path)


def _incomplete(path: Path) -> Iterator[Check]:
    """Tell SAEs that lack a part that every ingest makes."""
    from ingest.reduce import on_activations, on_codes
    from ingest.settings import Settings

    try:
        sound = Folder.open(path).sound()
    except AtlasError:
        return  # the room below has told it
    kinds = [r.name for r in (*on_codes(Settings()), *on_activations())]
    for name in sound.saes:
        lacking = [kind for kind in kinds if f"{kind}/{name}" not in sound.parts]
        if lacking:
            yield Check(
                f"{path}: {name}",
                "note",
                f"incomplete: it has no sound part of kind {', '.join(lacking)}",
                "Give the command that made it again.",
            )


def _stale_matches(path: Path) -> Iterator[Check]:
    """Report matches that are stale or of an older version, and how to compute them again."""
    from ingest.match.pipeline import VERSION

    try:
        sound = Folder.open(path).sound()
    except AtlasError:
        return  # the room below has told it
    stale = sound.stale
    if count := sum(key.startswith("match/") for key in stale):
        yield Check(f"{path}: matches", "note", f"{count} stale", "Run `atlas match --stale`.")
    older = sum(part.manifest.version < VERSION for part in sound.of("match"))
    if older:
        yield Check(
            f"{path}: matches",
            "note",
            f"{older} of an older version, without the null that shuffles within documents: their "
            "`beyond_token` is null",
            "Run `atlas match --stale`.",
        )


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Check("device", "ok", f"cuda: {names}")
    if torch.backends.mps.is_available():
        return Check("device", "ok", "mps")
    return Check("device", "ok", f"cpu, {torch.get_num_threads()} threads; no GPU is seen")


def _demo() -> Check:
    from ingest.demo.build import demo_text

    text = Path(str(demo_text().source))
    folder = text.parent
    saes = len(list(folder.glob("saes/*/cfg.json")))
    if saes and text.is_file():
        return Check("demo", "ok", f"{saes} SAEs and a text come with the package")
    return Check(
        "demo", "fault", f"the demo models are not in {folder}", "Install the package anew."
    )


def _text(path: Path) -> Iterator[Check]:
    from ingest.text.corpus import Corpus

    try:
        folder = Folder.open(path)
        if folder.corpus is None:
            return
        corpus = Corpus.open(folder.corpus_file)
        corpus.verify()
    except AtlasError as error:
        yield Check(f"{path}: text", "fault", str(error))
        return
    if corpus.info.id != folder.corpus["id"]:
        yield Check(
            f"{path}: text",
            "fault",
            "corpus.parquet is not the text that atlas.json names",
            "Put the right file back; results already there are not touched by this.",
        )
    else:
        info = corpus.info
        yield Check(
            f"{path}: text",
            "ok",
            f"{info.name}, {info.documents:,} documents in {len(corpus)} blocks",
        )
