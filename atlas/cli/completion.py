"""Names that the shell completes: SAEs and features of the selected atlas.

Completion never fails and never prints: without an atlas it offers nothing. The names are read
from the manifests of the folder, so that it takes well below a second.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from atlas.disk.folder import Sound

__all__ = ["COMPLETIONS", "add_completions", "complete_feature", "complete_sae"]

# Features offered for a prefix; a shell asks before it lists more.
_MOST = 200


def complete_sae(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the SAEs of the atlas that begin with the typed text."""
    sound = _sound(ctx)
    names = sound.saes if sound is not None else []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_feature(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the SAEs that begin with the typed text, and after ``SAE/`` its features."""
    sae, slash, _ = incomplete.partition("/")
    sound = _sound(ctx)
    if sound is None:
        return []
    if not slash:
        return [CompletionItem(f"{name}/") for name in sound.saes if name.startswith(sae)]
    if sae not in sound.saes:
        return []
    with suppress(Exception):  # a damaged part; the command itself reports it
        (row,) = sound.parts[f"sae/{sae}"].table("SAE").to_pylist()
        names = (f"{sae}/{idx}" for idx in range(row["d_sae"]))
        found = [name for name in names if name.startswith(incomplete)]
        return [CompletionItem(name) for name in found[:_MOST]]
    return []


#: Completion of values, by kind of name; see ``queries.Parameter``.
COMPLETIONS: dict[str, Callable[[click.Context, click.Parameter, str], list[CompletionItem]]] = {
    "SAE": complete_sae,
    "feature": complete_feature,
}


#: Parameters of commands, by name, whose values are completed.
_PARAMETERS = {"sae": complete_sae, "saes": complete_sae, "feature": complete_feature}


def add_completions(command: click.Command) -> None:
    """Let the shell complete the names of SAEs and features in a command and its subcommands."""
    for parameter in command.params:
        if parameter.name in _PARAMETERS and parameter._custom_shell_complete is None:
            parameter._custom_shell_complete = _PARAMETERS[parameter.name]
    if isinstance(command, click.Group):
        for each in command.commands.values():
            add_completions(each)


def _sound(ctx: click.Context) -> "Sound | None":
    """Return the sound parts of the selected atlas; None if there is no folder of one."""
    from atlas.cli.output import which_atlas
    from atlas.disk.folder import Folder

    with suppress(Exception):  # whatever is wrong, the command itself reports it
        return Folder.open(Path(which_atlas(ctx.params.get("where")))).sound()
    return None
