"""The record of training of an SAE: ``training.json`` in its folder, as `atlas train` writes it."""

from dataclasses import dataclass
from pathlib import Path

from atlas.studies.floors import Role
from ingest.folder_checks import check_training_record, read_json_object

__all__ = ["FILE", "TrainingRecord", "read_training_record"]

FILE = "training.json"


@dataclass(frozen=True)
class TrainingRecord:
    """How the weights of an SAE were obtained.

    Parameters
    ----------
    role
        ``trained``, or the kind of floor; see ``atlas.studies.floors``.
    floor_of
        Name of the trained SAE of which it is a floor.
    seed
        Seed of the training.
    k
        Active features per token, or the target of the training.
    """

    role: Role | None
    floor_of: str | None
    seed: int | None
    k: int | None = None


def read_training_record(folder: Path) -> TrainingRecord | None:
    """Read the record of the SAE in a folder; None if the folder has none.

    Raises
    ------
    BadInput
        If the file cannot be read, or a field is not valid.
    """
    path = folder / FILE
    if not path.exists():
        return None
    content = read_json_object(path)
    check_training_record(path, content)
    return TrainingRecord(
        content.get("role"), content.get("floor_of"), content.get("seed"), content.get("k")
    )
