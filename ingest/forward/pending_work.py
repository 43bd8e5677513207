"""Pending work: the runs and reductions that the atlas does not yet have for the requested SAEs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from atlas.disk.folder import Sound
from atlas.errors import RequestError
from atlas.progress import Progress
from ingest.forward.part_writer import PartWriter
from ingest.forward.shards import Group
from ingest.model.identity import unchecked, without_digests
from ingest.reduce import on_activations, on_codes
from ingest.reduce.protocol import CodeReduction, Reduction
from ingest.sae.autoencoder import Autoencoder
from ingest.settings import Settings

__all__ = ["PendingWork", "pending_work"]

R = TypeVar("R", bound=Reduction)


@dataclass(frozen=True)
class PendingWork:
    """The pending work of a group.

    Parameters
    ----------
    run
        The SAEs that need a run of the model; None if there are none.
    reduce
        The SAEs whose stored codes suffice, each with its missing reductions.
    """

    run: Group | None
    reduce: list[tuple[Autoencoder, list[CodeReduction]]] = field(default_factory=list)


def pending_work(
    delivery: PartWriter,
    settings: Settings,
    *,
    replace: bool,
    progress: Progress,
) -> PendingWork:
    """Compare the request with the sound parts of the atlas.

    Raises
    ------
    RequestError
        If the atlas has a different SAE of the same name, and ``replace`` is false.
    """
    sound = delivery.sound
    run: list[Autoencoder] = []
    reduce: list[tuple[Autoencoder, list[CodeReduction]]] = []
    for sae in delivery.group.saes:
        name = sae.info.name
        stored = sound.parts.get(f"sae/{name}")
        if stored is None or replace:
            run.append(sae)
            continue
        requested = delivery.sae_manifest(sae.info)
        if "parameters" not in stored.manifest.sources["model"]:
            requested = without_digests(requested)
        if stored.manifest.origin != requested.origin:
            raise RequestError(
                f"The atlas has a different SAE {name} ({stored.manifest.difference(requested)}). Add "
                "`replace=True` to replace it, or give this one another name, as in `saes='NAME=SOURCE'`."
            )
        has_codes = f"codes/{name}" in sound.parts
        needs_pass = _missing(sound, name, on_activations())
        missing = _missing(sound, name, on_codes(settings))
        if needs_pass or (settings.keep_codes and not has_codes) or (missing and not has_codes):
            run.append(sae)
        elif missing:
            reduce.append((sae, missing))
        else:
            progress.report(f"{name} is already in the atlas, with the same text and settings.")
            delivery.folder.discard_runs(name)
    if warning := unchecked(sound, delivery.group.model.name):
        progress.report(warning)
    group = delivery.group
    needed = Group(group.model, tuple(run), group.contexts, group.batch_tokens) if run else None
    return PendingWork(needed, reduce)


def _missing(sound: Sound, name: str, reductions: Sequence[R]) -> list[R]:
    """Return the reductions whose part is missing, or has other settings or another version."""
    return [r for r in reductions if not _is_stored(sound, name, r)]


def _is_stored(sound: Sound, name: str, reduction: Reduction) -> bool:
    part = sound.parts.get(f"{reduction.name}/{name}")
    if part is None or part.manifest.version != reduction.version:
        return False
    settings: dict[str, object] = asdict(reduction)  # type: ignore[call-overload]
    return dict(part.manifest.settings) == settings
