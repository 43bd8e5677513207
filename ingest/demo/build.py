"""The demo: ingest the models, SAEs and text of the package, and summarise an atlas."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from atlas.api import Atlas
from atlas.progress import SILENT, Progress, WithoutRemarks
from atlas.studies.floors import role_shown
from ingest.forward.run import ingest
from ingest.match.settings import MatchSettings
from ingest.probe.settings import ProbeSettings
from ingest.settings import Settings
from ingest.text.atlas_corpus import Text

__all__ = ["DEMO_SAES", "demo_text", "make_demo", "overview"]

DEMO_SAES = (
    "tiny-a-l1-s0",
    "tiny-a-l1-s0-frozen",
    "tiny-a-l1-s1",
    "tiny-a-l1-wide",
    "tiny-a-l1-mlp",
    "tiny-a-l0-s0",
    "tiny-b-l1-s0",
)

# Pairs that differ in seed, width, layer, site or model; the first three form a triangle. In the
# last pair the floor is in the position of its trained SAE.
DEMO_MATCHES = (
    ("tiny-a-l1-s0", "tiny-a-l1-s1"),
    ("tiny-a-l1-s0", "tiny-a-l1-wide"),
    ("tiny-a-l1-s1", "tiny-a-l1-wide"),
    ("tiny-a-l0-s0", "tiny-a-l1-s0"),
    ("tiny-a-l1-s0", "tiny-a-l1-mlp"),
    ("tiny-a-l1-s0", "tiny-b-l1-s0"),
    ("tiny-a-l1-s0-frozen", "tiny-a-l1-s1"),
)

# Both seeds, to compare which features are predictable in only one of them, and their floor.
DEMO_PROBED = ("tiny-a-l1-s0", "tiny-a-l1-s1", "tiny-a-l1-s0-frozen")


def demo_text() -> Text:
    """Return the text of the package."""
    return Text(Path(str(files("ingest.demo") / "text.jsonl")), name="demo")


def make_demo(path: "str | Path", *, device: str = "auto", progress: Progress = SILENT) -> Atlas:
    """Ingest the demo SAEs over the demo text, match some pairs, and probe three from the embedding.

    Parameters
    ----------
    path
        The folder of the atlas.
    device
        Device of the computation.
    progress
        Notified of the work.
    """
    path = Path(path)
    # Import SciPy's statistics and scikit-learn; every ingest prints ``overview``.
    from ingest.match.study import match_saes
    from ingest.probe.study import probe_saes

    ingest(
        path,
        saes=DEMO_SAES,
        text=demo_text(),
        settings=Settings(device=device),
        match=None,
        progress=progress,
    ).close()
    matching = WithoutRemarks(progress)  # the demo matches the pairs that its pages use
    for pair in DEMO_MATCHES:
        match_saes(path, pair, settings=MatchSettings(draws=10), progress=matching)
    probe_saes(
        path, DEMO_PROBED, settings=ProbeSettings(controls=2), device=device, progress=progress
    )
    return Atlas.open(path, progress=progress)


def overview(atlas: Atlas) -> list[dict[str, Any]]:
    """Return a row for each SAE of an atlas: its site, size, role and reconstruction error."""
    return [
        {
            "sae": sae["name"],
            "tokens": sae["tokens"],
            "L0": sae["l0"],
            "FVU": sae["fvu"],
            "dead share": sae["dead_share"],
            "role": role_shown(sae),
            "features": sae["d_sae"],
            "hook": sae["hook"],
            "model": sae["model"],
            "architecture": sae["architecture"],
        }
        for sae in atlas.table("SAE").sort_by("name").to_pylist()
    ]
