"""A study that was begun: what all of its steps know, and where its things lie."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from analysis.residual.activations import Reader
from analysis.residual.settings import ResidualSettings
from analysis.residual.train import Arm
from atlas.folder import Folder
from atlas.progress import Progress
from ingest.match.settings import MatchSettings
from ingest.probe.settings import ProbeSettings
from ingest.text.atlas_corpus import Text

__all__ = ["StudyContext"]


@dataclass(frozen=True, eq=False)
class StudyContext:
    """What all steps of a study know.

    Parameters
    ----------
    folder, name
        The atlas, and the study's name in it.
    reader
        Reads source and target.
    text
        The text as it was asked for.
    settings, probe, match
        What is trained, how it is probed, and how it is matched; not at all if None.
    device
        As it was asked for.
    replace
        Whether what was made otherwise under this name is made anew.
    progress
        Told how far it is.
    """

    folder: Folder
    name: str
    _: KW_ONLY
    reader: Reader
    text: Text
    settings: ResidualSettings
    probe: ProbeSettings
    match: MatchSettings | None
    device: str
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
