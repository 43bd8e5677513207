"""The subject of a probe: an SAE of the atlas whose codes were kept, and how its model was run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import Mismatch, Missing, UnknownName
from atlas.folder import Folder, Sound
from atlas.parts import Part
from ingest.contexts import ContextSettings

__all__ = ["Subject", "check_same", "open_subject"]


@dataclass(frozen=True, eq=False)
class Subject:
    """An SAE to be probed.

    Parameters
    ----------
    name
        Its name in the atlas.
    sae
        The part that says who it is.
    row, model
        Its row of the table SAE, and its model's of the table Model.
    shards
        Its codes.
    contexts, batch_tokens
        How text was laid out for the model.
    """

    name: str
    sae: Part
    row: Mapping[str, Any]
    model: Mapping[str, Any]
    shards: list[Path]
    contexts: ContextSettings
    batch_tokens: int


def open_subject(folder: Folder, sound: Sound, name: str) -> Subject:
    """Find what a probe needs of an SAE.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If its codes were not kept.
    BrokenPart
        If its codes have changed since they were written.
    """
    if name not in sound.saes:
        raise UnknownName("SAE", name, known=sound.saes, hint="`atlas list` shows them.")
    if f"codes/{name}" not in sound.parts:
        raise Missing(
            f"{name} cannot be probed: its codes were not kept in {folder.path}. Ingest it again with "
            "--keep-codes --replace."
        )
    sae, codes = sound.parts[f"sae/{name}"], sound.parts[f"codes/{name}"]
    codes.check()
    (row,) = sae.table("SAE").to_pylist()
    (model,) = sae.table("Model").to_pylist()
    said = sae.manifest.settings
    contexts = ContextSettings(context_size=said["context_size"], prepend_bos=said["prepend_bos"])
    shards = sorted(folder.codes(name).glob("*.arrow"))
    return Subject(name, sae, row, model, shards, contexts, int(said["batch_tokens"]))


def check_same(here: Subject, there: Subject, *, where: Path) -> None:
    """Make sure that two atlases mean the same SAE and model by a name.

    Raises
    ------
    Mismatch
        If they do not.
    """
    for what, mine, other in (
        ("weights", here.row["weights"], there.row["weights"]),
        ("model", here.model["weights"], there.model["weights"]),
        ("tokenizer", here.model["tokenizer"], there.model["tokenizer"]),
        ("contexts", here.contexts, there.contexts),
    ):
        if mine != other:
            raise Mismatch(
                f"{here.name} is another SAE in {where} (its {what} differ), so that atlas cannot validate its "
                "probes; ingest the same SAE there, with the same model and --context."
            )
