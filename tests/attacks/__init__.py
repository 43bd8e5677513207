"""Attacks on the program: each module attacks one thing many times and reports every try.

``make attack`` runs all of them and prints a table; ``docs/attacks.md`` holds its
last result. A module of this package has

``TITLE``
    What is attacked and how, in a few words.
``CLAIM``
    What must hold after each try.
``TRIES``
    How many tries a run makes by default.
``def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]``
    The attack. ``folder`` is empty and for this attack alone; a module that needs what this
    machine does not have raises ``Unavailable``.

and one line in ``ATTACKS``. The tests of the suite cover the same claims with few
tries; the attacks repeat them until a rare failure would show.
"""

from dataclasses import dataclass

__all__ = ["ATTACKS", "Try", "Unavailable"]

ATTACKS: tuple[str, ...] = (
    "kill",
    "run_state",
    "full_disk",
    "damage",
    "races",
    "folders",
    "long_line",
    "queries",
    "engine",
    "killed_pushes",
    "killed_servers",
    "two_pushers",
    "two_atlases",
)


@dataclass(frozen=True)
class Try:
    """One try of an attack.

    Parameters
    ----------
    name
        What was done, short.
    survived
        Whether the claim held.
    note
        What happened, where that is of interest or the claim did not hold.
    """

    name: str
    survived: bool
    note: str = ""


class Unavailable(Exception):
    """This machine does not have what the attack needs; the message names it."""
