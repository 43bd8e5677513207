"""What an atlas has already of the SAEs that were asked for, and what is left to do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from atlas.errors import RequestError
from atlas.folder import Folder, Sound
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
    """What is left to do of a group.

    Parameters
    ----------
    run
        The SAEs that need a run of the model; None if there are none.
    reduce
        The SAEs whose kept codes are enough, each with the reductions they lack.
    """

    run: Group | None
    reduce: list[tuple[Autoencoder, list[CodeReduction]]] = field(default_factory=list)


def pending_work(
    folder: Folder,
    delivery: PartWriter,
    settings: Settings,
    *,
    replace: bool,
    progress: Progress,
) -> PendingWork:
    """Compare what was asked with the sound parts of the atlas.

    Raises
    ------
    RequestError
        If the atlas has an SAE of the same name made otherwise, and it is not to be replaced.
    """
    sound = folder.sound()
    run: list[Autoencoder] = []
    reduce: list[tuple[Autoencoder, list[CodeReduction]]] = []
    for sae in delivery.group.saes:
        name = sae.info.name
        there = sound.parts.get(f"sae/{name}")
        if there is None or replace:
            run.append(sae)
            continue
        wanted = delivery.sae_manifest(sae.info)
        if "parameters" not in there.manifest.sources["model"]:
            wanted = without_digests(wanted)
        if there.manifest.origin != wanted.origin:
            raise RequestError(
                f"The atlas has an SAE {name} made otherwise ({there.manifest.difference(wanted)}). Add "
                "--replace to make it anew, or give this one another name with --sae NAME=SOURCE."
            )
        has_codes = f"codes/{name}" in sound.parts
        needs_pass = _missing(sound, name, on_activations())
        lacking = _missing(sound, name, on_codes(settings))
        if needs_pass or (settings.keep_codes and not has_codes) or (lacking and not has_codes):
            run.append(sae)
        elif lacking:
            reduce.append((sae, lacking))
        else:
            progress.report(f"{name} is in the atlas already, with the same text and settings.")
            folder.discard_runs(name)
    if warning := unchecked(sound, delivery.group.model.name):
        progress.report(warning)
    group = delivery.group
    needed = Group(group.model, tuple(run), group.contexts, group.batch_tokens) if run else None
    return PendingWork(needed, reduce)


def _missing(sound: Sound, name: str, reductions: Sequence[R]) -> list[R]:
    """Return the reductions whose part is not there, or was made by other rules."""
    return [r for r in reductions if not _is_there(sound, name, r)]


def _is_there(sound: Sound, name: str, reduction: Reduction) -> bool:
    part = sound.parts.get(f"{reduction.name}/{name}")
    if part is None or part.manifest.version != reduction.version:
        return False
    settings: dict[str, object] = asdict(reduction)  # type: ignore[call-overload]
    return dict(part.manifest.settings) == settings
