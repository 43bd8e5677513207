"""All errors that users can meet, in one class hierarchy.

::

    AtlasError                 something failed                        exit 1
    ├── RequestError           the request cannot be met               exit 2
    │   ├── UnknownName        no SAE, site, query or part of that name
    │   ├── BadInput           a file, text or option that cannot be used
    │   └── Mismatch           inputs that do not belong together
    ├── BadActivations         a model or an SAE returned NaN or Inf
    ├── BrokenPart             a file of the atlas is damaged or missing
    ├── NewerFormat            the atlas was written by a newer version
    ├── Interrupted            Ctrl-C                                 exit 130
    ├── Locked                 another process is writing this atlas
    ├── OutOfSpace              disk or memory is full
    ├── Missing                a model, SAE or data set is not on this machine
    └── StoreError             a graph store failed or refused
        ├── StoreUnreachable   no server answers
        ├── StoreDenied        the server refused the login
        └── QueryFailed        the store could not run the query     exit 2

Every message states the input, what was expected and what to do. It names a setting as Python
does, in backticks: "Increase `memory`". The command line writes the option instead, by
``atlas.cli.setting_names``. Errors of other
libraries (driver, hub, Arrow, operating system) are translated where the library is
called, in one module each.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "AtlasError",
    "BadActivations",
    "BadInput",
    "BrokenPart",
    "Interrupted",
    "Locked",
    "Mismatch",
    "Missing",
    "NewerFormat",
    "OutOfSpace",
    "QueryFailed",
    "RequestError",
    "StoreDenied",
    "StoreError",
    "StoreUnreachable",
    "UnknownName",
]


class AtlasError(Exception):
    """Base class of all errors; the message is written for users."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows: the message, without a traceback."""
        return [f"{type(self).__name__}: {self}"]


class RequestError(AtlasError):
    """The request cannot be met."""

    exit_code = 2


class UnknownName(RequestError):
    """No SAE, site, query or part has this name.

    Parameters
    ----------
    what
        What the name stands for, as a noun: ``"SAE"``.
    requested
        The unknown name.
    known
        The known names; the message lists the nearest ones.
    hint
        What to do, if the nearest names do not suffice.
    """

    def __init__(
        self, what: str, requested: str, *, known: Iterable[str] = (), hint: str = ""
    ) -> None:
        names = sorted(set(known))
        near = difflib.get_close_matches(requested, names, n=5, cutoff=0.5)
        if near:
            listed = f" Nearest: {', '.join(near)}."
        elif names:
            more = " …" if len(names) > 10 else ""
            listed = f" There are: {', '.join(names[:10])}{more}."
        elif hint:
            listed = ""
        else:
            listed = " There are none."
        super().__init__(f"No {what} is named {requested!r}.{listed}{' ' + hint if hint else ''}")
        self.requested = requested
        self.nearest = near


class BadInput(RequestError):
    """A file, a text or an option cannot be used."""


class Mismatch(RequestError):
    """Two inputs do not belong together, such as an SAE and a model of another width."""


class BadActivations(AtlasError):
    """A model or an SAE returned NaN or Inf."""


class BrokenPart(AtlasError):
    """A file of the atlas is damaged or missing."""


class NewerFormat(AtlasError):
    """The atlas was written by a newer version of this program."""


class Interrupted(AtlasError):
    """The user pressed Ctrl-C. Python code gets ``KeyboardInterrupt``; the command prints this."""

    exit_code = 130  # 128 plus the number of SIGINT, as in shells

    def __init__(self) -> None:
        super().__init__(
            "Interrupted. Run the same command again; it continues from the work that is stored, if any."
        )


class Locked(AtlasError):
    """Another process is writing this atlas."""


class OutOfSpace(AtlasError):
    """Disk or memory is full."""


class Missing(AtlasError):
    """A model, SAE, data set, codes or cluster is neither on this machine nor reachable."""


class StoreError(AtlasError):
    """A graph store failed or refused a request."""


class StoreUnreachable(StoreError):
    """No server answers at the address."""


class StoreDenied(StoreError):
    """The server refused the login or the permission."""


class QueryFailed(StoreError):
    """The store could not run the query."""

    exit_code = 2
