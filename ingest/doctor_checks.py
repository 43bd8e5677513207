"""Checks of package ingest for `atlas doctor`: the device, the demo, the text, the parts and the matches."""

from collections.abc import Iterator
from pathlib import Path

from atlas.disk.folder import Folder
from atlas.errors import AtlasError
from atlas.plugins import Check

__all__ = ["checks"]


def checks(path: Path | None) -> Iterator[Check]:
    """Yield the checks of the installation and of an atlas.

    Parameters
    ----------
    path
        The folder of the atlas; None to check the installation only.
    """
    yield _device()
    yield _demo()
    if path is not None:
        yield from _text(path)
        yield from _incomplete(path)
        yield from _stale_matches(path)


def _incomplete(path: Path) -> Iterator[Check]:
    """Report SAEs without a part that every ingest writes."""
    from ingest.reduce import on_activations, on_codes
    from ingest.settings import Settings

    try:
        sound = Folder.open(path).sound()
    except AtlasError:
        return  # package atlas reports it
    kinds = [r.name for r in (*on_codes(Settings()), *on_activations())]
    for name in sound.saes:
        missing = [kind for kind in kinds if f"{kind}/{name}" not in sound.parts]
        if missing:
            yield Check(
                f"{path}: {name}",
                "note",
                f"incomplete: it has no valid part of kind {', '.join(missing)}",
                "Run the command that ingested it again.",
            )


def _stale_matches(path: Path) -> Iterator[Check]:
    """Report matches that are stale or of an older version."""
    from ingest.match.pipeline import VERSION

    try:
        sound = Folder.open(path).sound()
    except AtlasError:
        return  # package atlas reports it
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
    return Check("device", "ok", f"cpu, {torch.get_num_threads()} threads; no GPU was found")


def _demo() -> Check:
    from ingest.demo.build import demo_text

    text = Path(str(demo_text().source))
    folder = text.parent
    saes = len(list(folder.glob("saes/*/cfg.json")))
    if saes and text.is_file():
        return Check("demo", "ok", f"{saes} SAEs and a text are included in the package")
    return Check(
        "demo", "fault", f"the demo models are not in {folder}", "Install the package again."
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
            "Restore the original file; the stored results are not affected.",
        )
    else:
        info = corpus.info
        yield Check(
            f"{path}: text",
            "ok",
            f"{info.name}, {info.documents:,} documents in {len(corpus)} blocks",
        )
