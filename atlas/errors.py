"""Every error a user can meet, in one tree.

::

    AtlasError                 something failed                        exit 1
    ├── RequestError           the request cannot be met as given      exit 2
    │   ├── UnknownName        no SAE, site, query or part of that name
    │   ├── BadInput           a file, text or option that cannot be used
    │   └── Mismatch           things that do not belong together
    ├── BadActivations         NaN or Inf came out of a model or an SAE
    ├── BrokenPart             a file of the atlas is not what was written
    ├── NewerFormat            the atlas was written by a newer version
    ├── Locked                 another process is writing this atlas
    ├── OutOfRoom              disk or memory is full
    ├── Missing                a model, SAE or data set is not on this machine
    └── StoreError             a graph store said no
        ├── StoreUnreachable   no server answers
        ├── StoreDenied        the server refused the login
        └── QueryFailed        the store could not run the query     exit 2

Every message says what was given, what was expected and what to do. Foreign
errors (driver, hub, Arrow, operating system) are translated where the foreign
library is called, in one place each.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "AtlasError",
    "BadActivations",
    "BadInput",
    "BrokenPart",
    "Locked",
    "Mismatch",
    "Missing",
    "NewerFormat",
    "OutOfRoom",
    "QueryFailed",
    "RequestError",
    "StoreDenied",
    "StoreError",
    "StoreUnreachable",
    "UnknownName",
]


class AtlasError(Exception):
    """Something failed; the message is one sentence for a person."""

    exit_code = 1


class RequestError(AtlasError):
    """The request cannot be met as it was given."""

    exit_code = 2


class UnknownName(RequestError):
    """No SAE, site, query or part has this name.

    Parameters
    ----------
    what
        What was looked for, as a noun: ``"SAE"``.
    given
        The name that was given.
    known
        The names there are; the nearest ones are told.
    hint
        What to do, when the nearest names do not say it.
    """

    def __init__(self, what: str, given: str, *, known: Iterable[str] = (), hint: str = "") -> None:
        names = sorted(set(known))
        near = difflib.get_close_matches(given, names, n=5, cutoff=0.5)
        if near:
            told = f" Nearest: {', '.join(near)}."
        elif names:
            more = " …" if len(names) > 10 else ""
            told = f" There are: {', '.join(names[:10])}{more}."
        elif hint:
            told = ""
        else:
            told = " There are none."
        super().__init__(f"No {what} is named {given!r}.{told}{' ' + hint if hint else ''}")
        self.given = given
        self.nearest = near


class BadInput(RequestError):
    """A file, a text or an option cannot be used."""


class Mismatch(RequestError):
    """Two things do not belong together, such as an SAE and a model of another width."""


class BadActivations(AtlasError):
    """NaN or Inf came out of a model or an SAE."""


class BrokenPart(AtlasError):
    """A file of the atlas is not what was written."""


class NewerFormat(AtlasError):
    """The atlas was written by a newer version of this program."""


class Locked(AtlasError):
    """Another process is writing this atlas."""


class OutOfRoom(AtlasError):
    """Disk or memory is full."""


class Missing(AtlasError):
    """A model, SAE, data set, codes or cluster is neither on this machine nor within reach."""


class StoreError(AtlasError):
    """A graph store said no."""


class StoreUnreachable(StoreError):
    """No server answers at the address."""


class StoreDenied(StoreError):
    """The server refused the login or the right to do this."""


class QueryFailed(StoreError):
    """The store could not run the query."""

    exit_code = 2
