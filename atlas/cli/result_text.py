"""Results of a study as text: the verdict, the summary, and the first rows of the first table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atlas.amounts import cell_text
from atlas.cli.output.drawn_text import drawn_text
from atlas.cli.output.screen import split_verdict
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, print_paragraph, print_text, print_verdict
from atlas.cli.study_command import plain_columns
from atlas.features.sections import SECTIONS
from atlas.studies.results import Result, Results

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["result_text", "results_text"]

# Rows of the first table.
_ROWS = 10


def result_text(result: Result) -> str:
    """Return the verdict of a result, its summary, and the first rows of its first table.

    Parameters
    ----------
    result
        The result of one SAE, pair or site.

    Returns
    -------
    str
        Lines of at most 80 columns. Columns that do not fit are omitted; a score is never shown
        without its controls.

    Examples
    --------
    >>> result = Result("count", "a", {"sae": "a", "n": 3, "m": 4}, verdict=["a has 3."])
    >>> print(result_text(result))
    a has 3.
    <BLANKLINE>
    sae  a
    n    3
    m    4
    """
    return drawn_text(lambda: _print_result(result))


def results_text(results: Results) -> str:
    """Return the first sentence of each verdict, and the table of the summaries.

    Parameters
    ----------
    results
        The results of a study; one alone is shown as ``result_text`` does.
    """
    return drawn_text(lambda: _print_results(results))


def _print_results(results: Results) -> None:
    if len(results) == 1:
        _print_result(results[0])
    elif results:
        print_verdict(split_verdict([one.verdict for one in results])[0])
        echo()
        print_table(results.rows, columns=plain_columns(results.rows), turned=True)
        print_paragraph("Complete: `.verdict`, `.to_pandas()`. One result: `print(results[0])`.")
    else:
        echo("No results.")
    for sentence in results.about_others():
        print_text(sentence)


def _print_result(result: Result) -> None:
    print_verdict(result.verdict)
    echo()
    print_table([result.summary], columns=plain_columns([result.summary]))
    _print_first_table(result)
    if result.tables:
        names = ", ".join(f"`.to_pandas({name!r})`" for name in result.tables)
        print_paragraph(f"Complete tables: {names}.")


def _print_first_table(result: Result) -> None:
    """Print the first rows of the first table that has several, and what is equal in all its rows."""
    for name in result.tables:
        table = result.table(name)
        if table.num_rows > 1:
            equal, varied = _divided(table)
            rows = table.select(varied).slice(0, _ROWS).to_pylist()
            number = f"{len(rows)} of {table.num_rows:,}" if table.num_rows > _ROWS else len(rows)
            echo()
            print_table(
                [_joined(row) for row in rows],
                controls={
                    score.column: score.controls for each in SECTIONS for score in each.scores
                },
                title=f"{name} ({number} rows)",
                spaced=True,
            )
            if equal:
                texts = [f"{each} {cell_text(value, each)}" for each, value in equal.items()]
                print_text(f"In all rows: {', '.join(texts)}.")
            return


def _divided(table: "pa.Table") -> tuple[dict[str, Any], list[str]]:
    """Return the columns with one value and this value, and the names of the others without lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    equal, varied = dict[str, Any](), list[str]()
    for name in table.column_names:
        if pa.types.is_nested(table[name].type):
            continue
        values = pc.unique(table[name])
        if len(values) > 1:
            varied.append(name)
        elif values[0].is_valid:
            equal[name] = values[0].as_py()
    return equal, varied


def _joined(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose ends of an edge, if it has both, are one column, so that none is omitted."""
    if not {"source", "target"} <= set(row):
        return dict(row)
    others = {name: value for name, value in row.items() if name not in ("source", "target")}
    return {"source → target": f"{row['source']} → {row['target']}", **others}
