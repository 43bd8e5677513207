"""Settings of studies: frozen dataclasses whose fields declare help, range and flag.

The check of a value, the command-line option and the command printed by reports are
generated from each field.

>>> from dataclasses import dataclass
>>> from atlas.studies.settings import check_settings, setting
>>> @dataclass(frozen=True)
... class DrawSettings:
...     draws: int = setting(20, "Number of draws.", least=0)
...     def __post_init__(self) -> None:
...         check_settings(self)
>>> DrawSettings(draws=-1)
Traceback (most recent call last):
    ...
atlas.errors.BadInput: draws is -1; expected a whole number, 0 or more.
"""

import math
import numbers
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from atlas.errors import BadInput

__all__ = [
    "MOST",
    "DefaultNumber",
    "Setting",
    "check_settings",
    "declared_settings",
    "documented",
    "read_settings",
    "setting",
    "settings_of",
]

S = TypeVar("S")

_KEY = "atlas.setting"

MOST = 2**63 - 1
"""Largest whole number of a setting: tables store 64 bits."""


class DefaultNumber(int):
    """A default number of draws; an equal ``int`` was passed.

    The runner reads a result of other draws only if no number of draws was passed.

    Examples
    --------
    >>> from ingest.match.settings import MatchSettings
    >>> MatchSettings() == MatchSettings(draws=20)
    True
    >>> [isinstance(each.draws, DefaultNumber) for each in (MatchSettings(), MatchSettings(draws=20))]
    [True, False]
    """


@dataclass(frozen=True)
class Setting:
    """One field of a settings class.

    Parameters
    ----------
    name
        Name of the field.
    type
        Type of the value, or of each item of a tuple: ``int``, ``float``, ``str`` or ``bool``.
    default
        Default value.
    help
        Effect of the setting, in one sentence; shown by ``--help``.
    flag
        Command-line option without its dashes; None if there is no option.
    aliases
        Other names of the option, without dashes.
    multiple
        Whether the value is a tuple.
    optional
        Whether the value may be None.
    choices
        Values of a ``Literal``; empty for other types.
    least, most
        Inclusive bounds of a number; None for no bound.
    above, below
        Exclusive bounds of a number; None for no bound.
    metavar
        Name of the value in the help.
    shown
        Default as shown in the help; the default itself if None.
    paper
        Number of draws or samples with the option ``--full``; None if it does not change the setting.
    """

    name: str
    type: type
    default: Any
    help: str
    flag: str | None
    aliases: tuple[str, ...]
    multiple: bool
    optional: bool
    choices: tuple[str, ...]
    least: float | None
    most: float | None
    above: float | None
    below: float | None
    metavar: str | None
    shown: str | None
    paper: int | None = None

    @property
    def expected(self) -> str:
        """Description of valid values, for messages."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        nouns = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        return nouns[self.type] + self._range()

    def _range(self) -> str:
        if self.least is not None and self.most is not None:
            return f" from {_shown(self.least)} to {_shown(self.most)}"
        if self.above is not None and self.below is not None:
            return f" between {_shown(self.above)} and {_shown(self.below)}, both excluded"
        parts = []
        if self.least is not None:
            parts.append(f"{_shown(self.least)} or more")
        if self.above is not None:
            parts.append(f"above {_shown(self.above)}")
        if self.most is not None:
            parts.append(f"at most {_shown(self.most)}")
        if self.below is not None:
            parts.append(f"below {_shown(self.below)}")
        return f", {' and '.join(parts)}" if parts else ""

    def accepts(self, value: object) -> bool:
        """Return whether a single value has the right type and is within the range."""
        if self.choices:
            return value in self.choices
        if self.type in (str, bool):
            return isinstance(value, self.type)
        wanted = numbers.Integral if self.type is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, wanted):
            return False
        if isinstance(value, numbers.Integral) and abs(int(value)) > MOST:
            return False
        return math.isfinite(value) and self._in_range(float(value))

    def _in_range(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def setting(
    default: Any,
    help: str,
    *,
    flag: str | None = "",
    aliases: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    metavar: str | None = None,
    shown: str | None = None,
    paper: int | None = None,
) -> Any:
    """Return a dataclass field with its help, range and flag.

    Parameters
    ----------
    default
        Default value.
    help
        One sentence for ``--help``.
    flag
        Option without dashes; by default derived from the field name. None for no option.
    aliases
        Other names of the option, without dashes.
    least, most
        Inclusive bounds.
    above, below
        Exclusive bounds.
    metavar
        Name of the value in the help.
    shown
        Default as shown in the help, such as ``"all"`` for None.
    paper
        For a number of draws: the number that results in a paper need, used with ``--full``.
    """
    known = {
        "help": help,
        "flag": flag,
        "aliases": aliases,
        "least": least,
        "most": most,
        "above": above,
        "below": below,
        "metavar": metavar,
        "shown": shown,
        "paper": paper,
    }
    default = default if paper is None else DefaultNumber(default)
    return field(default=default, metadata={_KEY: known})


def documented(cls: type[S]) -> type[S]:
    """Append the help of each field to the docstring of a settings class, in numpydoc format."""
    lines = [cls.__doc__ or "", "", "    Parameters", "    ----------"]
    for one in settings_of(cls):
        lines += [f"    {one.name}", f"        {one.help}"]
    cls.__doc__ = "\n".join(lines) + "\n    "
    return cls


_known: dict[type, tuple[Setting, ...]] = {}


def settings_of(cls: type) -> tuple[Setting, ...]:
    """Return the settings of a class, in the order of its fields.

    Raises
    ------
    TypeError
        If a field was not declared with ``setting``, or has an unsupported type.
    """
    if cls not in _known:
        hints = get_type_hints(cls)
        _known[cls] = tuple(
            _setting(f.name, hints[f.name], f.default, f.metadata) for f in fields(cls)
        )
    return _known[cls]


def declared_settings(cls: type) -> tuple[Setting, ...]:
    """Return the settings of a class; none of a class whose fields were not declared with ``setting``."""
    if not (is_dataclass(cls) and all(_KEY in one.metadata for one in fields(cls))):
        return ()
    return settings_of(cls)


def check_settings(settings: Any) -> None:
    """Check every field of settings; call it from ``__post_init__``.

    Raises
    ------
    BadInput
        If a value has the wrong type or is outside its range.
    """
    for one in settings_of(type(settings)):
        value = getattr(settings, one.name)
        if value is None and one.optional:
            continue
        if one.multiple and not (isinstance(value, tuple | list) and value):
            raise BadInput(f"{one.name} is {value!r}; expected one or more, each {one.expected}.")
        for each in value if one.multiple else (value,):
            if not one.accepts(each):
                raise BadInput(_refusal(one, each))


def _refusal(one: Setting, value: object) -> str:
    if isinstance(value, numbers.Integral) and abs(int(value)) > MOST:
        return (
            f"{one.name} is a number above 64 bits; expected {one.expected}, of at most {MOST:,}."
        )
    return f"{one.name} is {value!r}; expected {one.expected}."


def read_settings(cls: type[S], stored: Mapping[str, Any]) -> S:
    """Return settings from a manifest; missing fields get their defaults.

    Parameters
    ----------
    cls
        The settings class.
    stored
        Values by name, as read from JSON; unknown names are ignored.
    """
    values = {}
    for one in settings_of(cls):
        if one.name in stored:
            value = stored[one.name]
            values[one.name] = tuple(value) if one.multiple and value is not None else value
    return cls(**values)


def _setting(name: str, hint: Any, default: Any, metadata: Mapping[str, Any]) -> Setting:
    if _KEY not in metadata:
        raise TypeError(
            f"The field {name} has no help; declare it with atlas.studies.settings.setting."
        )
    known = dict(metadata[_KEY])
    if known["flag"] == "":
        known["flag"] = name.replace("_", "-")
    hints, optional = _without_none(hint)
    multiple = get_origin(hints) is tuple
    inner = get_args(hints)[0] if multiple else hints
    choices = tuple(_literals(inner))
    kind = str if choices else inner
    if kind not in (int, float, str, bool):
        raise TypeError(
            f"The field {name} has the type {hint}; expected int, float, str, bool, a Literal, or a tuple "
            "of one of these."
        )
    return Setting(
        name=name,
        type=kind,
        default=default,
        multiple=multiple,
        optional=optional,
        choices=choices,
        **known,
    )


def _shown(bound: float) -> str:
    """Return a bound as text; large whole numbers with all of their digits."""
    return f"{bound:,}" if isinstance(bound, int) and abs(bound) >= 10**6 else f"{bound:g}"


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [h for h in get_args(hint) if h is not type(None)]
        return rest[0], len(rest) < len(get_args(hint))
    return hint, False


def _literals(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
