"""Numbers of the command line: whole numbers of at most 64 bits, and no NaN."""

import math
from collections.abc import Callable
from typing import Any

import click

from atlas.studies.settings import MOST

__all__ = ["limit_numbers"]


def limit_numbers(command: click.Command) -> None:
    """Let each number of a command, and of its subcommands, refuse NaN and whole numbers above 64 bits.

    Tables, files and libraries store 64 bits, and click accepts whole numbers of any length.
    """
    if isinstance(command, click.Group):
        for each in command.commands.values():
            limit_numbers(each)
        return
    for parameter in command.params:
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
            parameter.type.convert = _limited(parameter.type.convert)  # type: ignore[method-assign]


def _limited(convert: Callable[..., Any]) -> Callable[..., Any]:
    """Return the conversion of a text to a number, followed by the check of the number."""
    if hasattr(convert, "limits_numbers"):  # several options may share a type
        return convert

    def limited(value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = convert(value, param, ctx)
        if isinstance(number, int) and abs(number) > MOST:
            raise click.BadParameter(
                f"a whole number of {len(str(value))} characters was passed; expected at most {MOST:,}.",
                ctx=ctx,
                param=param,
            )
        if isinstance(number, float) and math.isnan(number):
            raise click.BadParameter(f"{value} is not a number.", ctx=ctx, param=param)
        return number

    limited.limits_numbers = True  # type: ignore[attr-defined]
    return limited
