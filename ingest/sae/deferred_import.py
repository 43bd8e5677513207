"""Deferred import of libraries that another library imports and rarely uses."""

import importlib.util
import sys

__all__ = ["defer_import"]


def defer_import(name: str) -> None:
    """Run the code of a package at the first use of one of its attributes, not when it is imported.

    Nothing happens if it is already imported or not installed. This is the lazy import that the
    documentation of ``importlib`` describes.

    Parameters
    ----------
    name
        Name of the package. Those who import it must use ``import name``: another form uses an
        attribute at once.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
