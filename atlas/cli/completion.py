"""Names that the shell completes: SAEs, features, sites, models and runs of the selected atlas.

The metavar of a parameter decides what it names: ``[SAE]...``, ``SAE/INDEX``, ``SITE``. A command
whose names are not those of an atlas passes its own ``shell_complete``; see ``complete_names``.

Completion never fails and never prints: without an atlas it offers nothing. The names are read
from the manifests of the folder, so that it takes well below a second.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.shell_completion import CompletionItem

from atlas.plugins import import_function

if TYPE_CHECKING:
    from atlas.disk.folder import Sound

__all__ = [
    "COMPLETIONS",
    "Complete",
    "add_completions",
    "complete_by",
    "complete_feature",
    "complete_file",
    "complete_names",
    "complete_sae",
    "path_steps",
]

Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

# Key of the sound parts in the context of a command.
_SOUND = "atlas.completion.sound"

# Features offered for a prefix; a shell asks before it lists more.
_MOST = 200

# Sites that every model has: see ``TransformerLens``.
_EMBEDDING, _BLOCK_OUTPUT = "hook_embed", "blocks.{}.hook_resid_post"


def complete_sae(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the SAEs of the atlas that begin with the typed text."""
    return _beginning(_saes(ctx), incomplete)


def complete_feature(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the SAEs that begin with the typed text, and the features of the only one.

    A shell adds a space after the only completion, so that of one SAE its features are offered.
    """
    sound = _sound(ctx)
    sae, slash, _ = incomplete.partition("/")
    names = [name for name in _saes(ctx) if (name == sae if slash else name.startswith(sae))]
    if sound is None or len(names) != 1:
        return [CompletionItem(f"{name}/") for name in names]
    with suppress(Exception):  # a damaged part; the command itself reports it
        (row,) = sound.parts[f"sae/{names[0]}"].table("SAE").to_pylist()
        return _beginning((f"{names[0]}/{idx}" for idx in range(row["d_sae"])), incomplete)[:_MOST]
    return []


def _complete_sae_or_feature(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return SAEs; after ``SAE/``, features."""
    if "/" in incomplete:
        return complete_feature(ctx, param, incomplete)
    return complete_sae(ctx, param, incomplete)


def _complete_pair(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return pairs of SAEs, as ``A+B``."""
    names = _saes(ctx)
    return _beginning((f"{a}+{b}" for a in names for b in names if a != b), incomplete)


def _complete_renamed(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return SAEs, each with the ``=`` that precedes another name."""
    return _beginning((f"{name}=" for name in _saes(ctx)), incomplete)


def _complete_site(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the sites of the atlas, and those that each of its models has."""
    stored = [site["hook"] for site in _rows(ctx, "Site")]
    layers = max((model["layers"] or 0 for model in _rows(ctx, "Model")), default=-1)
    of_models = [_EMBEDDING] * (layers >= 0) + [_BLOCK_OUTPUT.format(n) for n in range(layers)]
    return _beginning(stored + of_models, incomplete)


def _complete_column(table: str, column: str, *, kind: str = "") -> Complete:
    """Return the completion of the values of a column, of parts of this kind only if it is named."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _beginning((row[column] for row in _rows(ctx, table, kind)), incomplete)

    return complete


def _complete_study(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the residual studies of the atlas."""
    sound = _sound(ctx)
    names = [part.manifest.name for part in sound.of("residual")] if sound is not None else []
    return _beginning(names, incomplete)


def _complete_atlas(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the atlases in the current folder; other folders, if none begins with the text."""
    from atlas.cli.selected_atlas import atlases_here

    return _beginning(atlases_here(), incomplete) or _complete_folder(ctx, param, incomplete)


def _complete_folder(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a folder."""
    return [CompletionItem(incomplete, type="dir")]


def complete_file(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a file."""
    return [CompletionItem(incomplete, type="file")]


def complete_names(function: str, *, others: str = "") -> Complete:
    """Return the completion of names that a function returns.

    Parameters
    ----------
    function
        ``module:function`` without arguments; it must not import torch.
    others
        What the shell completes if no name begins with the typed text: ``"file"`` or ``"dir"``.
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: list[CompletionItem] = []
        with suppress(Exception):  # the command itself reports what is wrong
            found = _beginning(import_function(function)(), incomplete)
        return found or ([CompletionItem(incomplete, type=others)] if others else [])

    return complete


def complete_by(function: str) -> Complete:
    """Return a completion that is imported when it is needed.

    Parameters
    ----------
    function
        ``module:function``, which takes the arguments of a completion.
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: list[CompletionItem] = import_function(function)(ctx, param, incomplete)
        return found

    return complete


def path_steps(names: Iterable[str], incomplete: str) -> list[str]:
    """Return how names continue the typed text, up to their next slash; all of the only one.

    Examples
    --------
    >>> path_steps(["gpt2/a", "gpt2/b", "gemma/a/c"], "g")
    ['gpt2/', 'gemma/']
    >>> path_steps(["gpt2/a", "gpt2/b", "gemma/a/c"], "gp")
    ['gpt2/a', 'gpt2/b']
    """
    found = [name for name in names if name.startswith(incomplete)]
    length = len(incomplete)
    while True:
        ends = [name.find("/", length) + 1 or len(name) for name in found]
        steps = dict.fromkeys(name[:end] for name, end in zip(found, ends, strict=True))
        (first, *more) = steps or ("",)
        if more or not first.endswith("/"):
            return list(steps)
        length = len(first)


_complete_model = _complete_column("Model", "name")
_complete_run = _complete_column("PREDICTED_FROM", "run", kind="probe")

#: Completion by what a parameter names: the words of its metavar, and the kinds of ``queries.Parameter``.
COMPLETIONS: dict[str, Complete] = {
    "SAE": complete_sae,
    "A": complete_sae,
    "B": complete_sae,
    "NARROW": complete_sae,
    "SAE/INDEX": complete_feature,
    "FEATURE": complete_feature,
    "SAE|SAE/INDEX": _complete_sae_or_feature,
    "SAE=NAME": _complete_renamed,
    "C+D": _complete_pair,
    "MODEL": _complete_model,
    "SITE": _complete_site,
    "HOOK": _complete_column("Site", "hook", kind="probe"),
    "RUN": _complete_run,
    "STUDY": _complete_study,
    "ATLAS": _complete_atlas,
    "FILE": complete_file,
    "PATH": _complete_atlas,
    "PATH|URL": _complete_atlas,
    "feature": complete_feature,
    "site": _complete_column("Site", "id"),
    "model": _complete_model,
    "concept": _complete_column("Concept", "name"),
    "run": _complete_run,
}

#: Completion of parameters whose metavar is that of a name in an atlas, but which name a folder.
_OTHERS: dict[str, Complete] = {
    "model": _complete_folder,
    "model_paths": _complete_folder,
}

_WORD = re.compile(r"[A-Z]+(?:[/|+=][A-Z]+)*")


def add_completions(command: click.Command) -> None:
    """Let the shell complete the names in a command and its subcommands; see ``COMPLETIONS``."""
    for parameter in command.params:
        complete = _completion_of(parameter)
        if complete is not None and parameter._custom_shell_complete is None:
            parameter._custom_shell_complete = complete
    if isinstance(command, click.Group):
        for each in command.commands.values():
            add_completions(each)


def _completion_of(parameter: click.Parameter) -> Complete | None:
    """Return the completion of a parameter; None if it takes no text, or text without names."""
    if not isinstance(parameter.type, click.types.StringParamType):
        return None
    name = str(parameter.name)
    if name in _OTHERS:
        return _OTHERS[name]
    words = _WORD.findall(parameter.metavar or name.upper())
    return COMPLETIONS.get(words[0]) if words else None


def _beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin with the typed text, each once."""
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _saes(ctx: click.Context) -> list[str]:
    sound = _sound(ctx)
    return sound.saes if sound is not None else []


def _rows(ctx: click.Context, table: str, kind: str = "") -> list[dict[str, Any]]:
    """Return one row of a table per sound part and its kind, or of all rows of small tables.

    Of equal tables, such as those of the site of many SAEs, one is read. Parts whose names differ
    only in their SAE have the same row, and one of them is read.
    """
    sound = _sound(ctx)
    found: list[dict[str, Any]] = []
    read: set[object] = set()
    for part in sound.parts.values() if sound is not None else ():
        own, name = part.manifest.kind, part.manifest.name
        if table not in part.manifest.tables or (kind and own != kind):
            continue
        keys = {(own, name.partition("@")[2] or name), part.manifest.tables[table].sha256}
        if read & keys:
            continue
        read |= keys
        with suppress(Exception):  # a damaged part; the command itself reports it
            rows = part.table(table)
            found += rows.to_pylist() if rows.num_rows < _MOST else rows.slice(0, 1).to_pylist()
    return found


def _sound(ctx: click.Context) -> "Sound | None":
    """Return the sound parts of the selected atlas, read once; None if there is no folder of one."""
    from atlas.cli.selected_atlas import which_atlas
    from atlas.disk.folder import Folder

    if _SOUND not in ctx.meta:
        ctx.meta[_SOUND] = None
        with suppress(Exception):  # whatever is wrong, the command itself reports it
            folder = Folder.open(Path(which_atlas(ctx.params.get("where"))))
            ctx.meta[_SOUND] = folder.sound()
    found: Sound | None = ctx.meta[_SOUND]
    return found
