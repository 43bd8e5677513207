"""The subject of a probe: an SAE whose codes are stored, and how its model was run."""

from dataclasses import dataclass
from pathlib import Path

from atlas.errors import Mismatch
from atlas.folder import Folder, Sound
from atlas.parts import differ
from ingest.codes.store import stored_shards
from ingest.sae.record import SaeRecord, open_sae_record

__all__ = ["ProbedSae", "check_same", "open_subject"]


@dataclass(frozen=True, eq=False)
class ProbedSae(SaeRecord):
    """An SAE to be probed.

    Parameters
    ----------
    shards
        Its codes.
    """

    shards: list[Path]


def open_subject(folder: Folder, sound: Sound, name: str) -> ProbedSae:
    """Open the codes and the record of an SAE for probing.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If its codes are not stored.
    BrokenPart
        If its codes have changed since they were written.
    """
    ingested = open_sae_record(sound, name)
    shards = stored_shards(folder, sound, name, what=f"A probe of {name}")
    return ProbedSae(**vars(ingested), shards=shards)


def check_same(subject: ProbedSae, counterpart: ProbedSae, *, where: Path) -> None:
    """Check that an SAE and its model are the same in two atlases.

    Raises
    ------
    Mismatch
        If they differ.
    """
    for field, mine, other in (
        ("weights", subject.row["weights"], counterpart.row["weights"]),
        ("model", subject.model["weights"], counterpart.model["weights"]),
        ("model's parameters", differ(subject.parameters, counterpart.parameters), False),
        ("tokenizer", subject.model["tokenizer"], counterpart.model["tokenizer"]),
        ("contexts", subject.contexts, counterpart.contexts),
    ):
        if mine != other:
            raise Mismatch(
                f"{subject.name} is another SAE in {where} (its {field} differ), so {where} cannot validate its "
                "probes. Ingest the same SAE there, with the same model and --context."
            )
