"""What an atlas holds, and what one of its SAEs is, on a screen: ``atlas list`` and ``print``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlas.amounts import cell_text, counted, listed
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, print_paragraph, print_text
from atlas.features.remarks import about_few_tokens, about_flips, about_fvu, stored_flips
from atlas.plugins import study_commands
from atlas.studies.floors import floors_of, role_shown

if TYPE_CHECKING:
    from atlas.features.open_atlas import OpenAtlas

__all__ = ["COLUMNS", "print_overview", "print_sae", "print_saes"]

#: Columns of `atlas list`; the last ones are omitted on a narrow terminal.
COLUMNS = (
    "sae",
    "hook",
    "d_sae",
    "l0",
    "fvu",
    "floor_of",
    "dead_share",
    "role",
    "model",
    "tokens",
    "architecture",
)
# Numbers of an SAE, which are those of its floors too.
_NUMBERS = ("l0", "fvu", "dead_share")
# Other SAEs that a line names.
_MOST = 4


def print_saes(atlas: "OpenAtlas") -> None:
    """Print the number of SAEs, the table of their main numbers, and remarks on them."""
    rows = [{"sae": row["name"], **row, "role": role_shown(row)} for row in _saes(atlas)]
    if not rows:
        return
    floors = sum(row["floor_of"] is not None for row in rows)
    noted = f", {counted(floors, 'floor')} among them" if floors else ""
    models = len({row["model"] for row in rows})
    echo(f"{counted(len(rows), 'SAE')} of {counted(models, 'model')}{noted}.")
    unused = {name for name in ("role", "floor_of") if not any(row[name] for row in rows)}
    columns = [name for name in COLUMNS if name not in unused]
    print_table(rows, columns=columns, keys=("floor_of",), unbroken=("hook",), turned=True)
    print_text(
        "l0: active features per token. fvu: share of variance not explained. dead_share: features never active."
    )
    for row in rows:
        for sentence in about_flips(row["sae"], stored_flips(atlas.folder, row["sae"])):
            print_text(sentence)


def print_overview(atlas: "OpenAtlas") -> None:
    """Print what an atlas holds: its text, its SAEs and the studies whose results it stores."""
    for text in atlas.table("Corpus").to_pylist():
        print_text(
            f"{atlas.url}: the text {text['name']} ({counted(text['documents'], 'document')}, "
            f"{text['characters']:,} characters)."
        )
    if not len(atlas.saes):
        print_text(f"{atlas.url} has no SAE; add one with `atlas ingest`.")
    print_saes(atlas)
    if studies := _studies(atlas):
        print_paragraph(f"Stored results: {', '.join(studies)}.")


def print_sae(atlas: "OpenAtlas", name: str) -> None:
    """Print what an SAE is, its main numbers next to those of its floors, and what is stored of it."""
    rows = {row["name"]: row for row in _saes(atlas)}
    row = rows[name]
    kind = " ".join(str(one) for one in (role_shown(row), row["architecture"]) if one)
    floor = f", a floor of {row['floor_of']}" if row["floor_of"] else ""
    print_text(
        f"{name}: {counted(row['d_sae'], 'feature')} at {row['hook']} of {row['model']} "
        f"({kind}{floor})."
    )
    if row["tokens"] is not None:
        print_text(f"On {counted(row['tokens'], 'token')}: {_numbers(row)}.")
    for other in floors_of(rows.values(), name):
        print_text(f"Its floor {other} ({role_shown(rows[other])}): {_numbers(rows[other])}.")
    for sentence in [
        *about_few_tokens(row["tokens"]),
        *about_fvu(name, row["fvu"]),
        *about_flips(name, stored_flips(atlas.folder, name)),
    ]:
        print_text(sentence)
    if matched := _matched(atlas, name):
        print_text(f"Matched with: {listed(matched, _MOST)}.")
    if studies := _studies(atlas, name):
        print_text(f"Stored results: {', '.join(studies)}.")


def _saes(atlas: "OpenAtlas") -> list[dict[str, Any]]:
    return sorted(atlas.table("SAE").to_pylist(), key=lambda row: str(row["name"]))


def _numbers(row: Mapping[str, Any]) -> str:
    """Return the main numbers of an SAE that are not null."""
    found = [
        f"{name} {cell_text(row[name], name)}" for name in _NUMBERS if row.get(name) is not None
    ]
    return ", ".join(found)


def _matched(atlas: "OpenAtlas", name: str) -> Sequence[str]:
    pairs = atlas.table("COMPARED_WITH").select(["source", "target"]).to_pylist()
    found = {one for pair in pairs if name in pair.values() for one in pair.values()}
    return sorted(found - {name})


def _studies(atlas: "OpenAtlas", sae: str = "") -> list[str]:
    """Return the studies with stored results, each with their number; none on a server."""
    if atlas.folder is None:
        return []
    commands, numbers = study_commands(), dict[str, int]()
    for part in atlas.folder.sound().parts.values():
        command = commands.get(part.manifest.kind)
        if command is not None and (not sae or sae in part.manifest.saes):
            numbers[str(command.name)] = numbers.get(str(command.name), 0) + 1
    return [f"{name} ({number})" for name, number in sorted(numbers.items())]
