"""Context of a running residual study: its settings and its folders."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from analysis.residual.activations import Reader
from analysis.residual.settings import ResidualSettings
from analysis.residual.train import Arm
from atlas.disk.folder import Folder
from atlas.progress import Progress
from ingest.match.settings import MatchSettings
from ingest.probe.settings import ProbeSettings
from ingest.text.atlas_corpus import Text

__all__ = ["StudyContext"]


@dataclass(frozen=True, eq=False)
class StudyContext:
    """Settings and folders that all steps of a study share.

    Parameters
    ----------
    folder, name
        The atlas, and the name of the study.
    reader
        Reads source and target.
    text
        The text, as input by the user.
    settings, probe, match
        Settings of training, probes and matches; ``match`` is None for no matches.
    device
        Device, as input by the user.
    replace
        Whether to replace a study of this name that has other settings.
    progress
        Receives the progress.
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
        """Folder of temporary files until the SAEs are trained."""
        return self.folder.cache / f"residual-{self.name}"

    def sae_name(self, arm: Arm) -> str:
        """Return the name of an arm's SAE."""
        return f"{self.name}-{arm.label}"

    def sae_folder(self, arm: Arm) -> Path:
        """Return the folder of an arm's SAE."""
        return self.folder.path / "saes" / self.sae_name(arm)
