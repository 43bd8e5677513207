"""The one input of the record that no command builds: a planted atlas, written in Python."""

from pathlib import Path

from ingest.synthetic import Planted


def build_planted(folder: Path) -> None:
    """Write a planted atlas of two SAEs, ``a`` and ``b``, into a new folder."""
    planted = Planted.make(
        1, documents=400, document_length=60, shared=60, context=10, private=20, token=4, rate=0.02
    )
    planted.write(folder).close()
