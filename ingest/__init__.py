"""What reads text, activations or codes: texts, models and SAEs go in, parts come out.

>>> from ingest import ingest                                  # doctest: +SKIP
>>> atlas = ingest("notes.atlas", saes=[sae], model=model, tokenizer=tokenizer,
...                text=["one document", "another"])
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.run import Text as Text
    from ingest.run import ingest as ingest
    from ingest.settings import Settings as Settings

__all__ = ["Settings", "Text", "ingest"]


def __getattr__(name: str) -> object:
    if name in ("ingest", "Text"):
        from ingest import run

        return getattr(run, name)
    if name == "Settings":
        from ingest.settings import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
