"""A small atlas with the names of the demo: two seeds, their floor and an earlier layer."""

from ingest import MatchSettings, ProbeSettings, Settings, ingest, probe_saes
from ingest.demo.build import demo_text

SAES = ("tiny-a-l1-s0", "tiny-a-l1-s1", "tiny-a-l1-s0-frozen")
EARLIER = "tiny-a-l0-s0"


def make_small_demo(path, *, tokens=3000):
    """Create the atlas; its numbers are not those of the demo."""
    settings = Settings(tokens=tokens, device="cpu")
    match = MatchSettings(draws=3)
    ingest(path, saes=SAES, text=demo_text(), settings=settings, match=match).close()
    ingest(path, saes=[EARLIER], settings=settings, match=None).close()
    probe_saes(
        path, SAES[:1], settings=ProbeSettings(splits=("document",), controls=1), device="cpu"
    )
