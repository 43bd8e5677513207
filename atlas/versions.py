"""Installed versions of the main libraries, read without importing them."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed"]

LIBRARIES = (
    "feature-atlas",
    "numpy",
    "pyarrow",
    "torch",
    "transformers",
    "sae-lens",
    "kuzu",
    "neo4j",
)


@cache
def installed() -> dict[str, str]:
    """Return the version of each installed library."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
