"""A study that was begun: what all of its steps know, and where its things lie."""

from dataclasses import dataclass
from pathlib import Path

from atlas.folder import Folder
from atlas.progress import Progress
from ingest.residual.activations import Reader
from ingest.residual.settings import ResidualSettings
from ingest.residual.train import Arm
from ingest.run import Text

__all__ = ["Begun"]


@dataclass(frozen=True, eq=False)
class Begun:
    """What all steps of a study know."""

    folder: Folder
    name: str
    settings: ResidualSettings
    reader: Reader
    text: Text
    replace: bool
    progress: Progress

    @property
    def scratch(self) -> Path:
        """Where it keeps what it needs until its SAEs are trained."""
        return self.folder.cache / f"residual-{self.name}"

    def sae_name(self, arm: Arm) -> str:
        """Return the name of an arm's SAE."""
        return f"{self.name}-{arm.label}"

    def place(self, arm: Arm) -> Path:
        """Return the folder of an arm's SAE."""
        return self.folder.path / "saes" / self.sae_name(arm)
