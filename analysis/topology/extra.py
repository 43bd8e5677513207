"""The optional libraries of the study: ripser, persim and kmapper, of the extra ``topology``."""

from importlib import import_module
from typing import Any

from atlas.errors import Missing

__all__ = ["LIBRARIES", "check_extra", "library"]

LIBRARIES = ("ripser", "persim", "kmapper")


def library(name: str) -> Any:
    """Return one of the libraries.

    Raises
    ------
    Missing
        If it is not installed; the message states what to install.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise Missing(
            f"A study of topology needs {name}, which is not installed. Run "
            "`pip install 'feature-atlas[topology]'`."
        ) from error


def check_extra() -> None:
    """Check that all libraries are installed.

    Raises
    ------
    Missing
        If one is not; the message states what to install.
    """
    for name in LIBRARIES:
        library(name)
