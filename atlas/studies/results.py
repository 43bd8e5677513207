"""Results of studies, for the command line, notebooks, pages and reports."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from atlas.amounts import counted, listed
from atlas.errors import BadInput
from atlas.plugins import import_function
from atlas.safe_text import shown

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from jinja2 import Template

__all__ = ["Result", "Results", "sentences_of"]

_SHOWN_ROWS = 20

# Number of results that a message names.
_SHOWN_NAMES = 3


_END = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)(?<!cf\.)(?<=[.?!])\s+")


class Result(Mapping[str, Any]):
    """The result of a study for one SAE, pair or site.

    A result is a mapping: ``result["modularity"]`` is a number of its summary.

    Parameters
    ----------
    kind, name
        Kind and name of the part that stores it: ``match``, ``a+b``.
    summary
        Main numbers, by name.
    verdict
        Sentences that interpret the numbers, computed from them.
    tables
        Names of the tables, and a function that reads one.

    Attributes
    ----------
    atlas
        Folder or URL of the atlas, for plots that also show properties of features; None if
        unknown. ``atlas.studies.runner.run_study`` sets it.
    provenance
        How it was computed: ``part``, its ``hash`` and time (``created``), ``version`` of Feature Atlas,
        ``settings``, ``seed``, ``saes`` (SHA-256 of the weights of each), ``text`` (name and digest) and
        ``atlas`` (name and uuid). ``run_study`` sets it.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        summary: Mapping[str, Any],
        *,
        verdict: Sequence[str] = (),
        tables: "tuple[Iterable[str], Callable[[str], pa.Table]] | None" = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.summary = dict(summary)
        self.verdict = tuple(verdict)
        self.tables = tuple(tables[0]) if tables is not None else ()
        self._read = tables[1] if tables is not None else None
        self.atlas: str | None = None
        self.saes: tuple[str, ...] = ()
        """The SAEs that it is about, in the order of the study; set by ``run_study``."""
        self.settings: Mapping[str, Any] = {}
        """The settings that it was computed with; set by ``run_study``."""
        self.provenance: Mapping[str, Any] = {}
        self.floor = False
        """Whether it was added because it is about a floor of a selected SAE."""

    def __getitem__(self, key: str) -> Any:
        return self.summary[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.summary)

    def __len__(self) -> int:
        return len(self.summary)

    def table(self, name: str) -> "pa.Table":
        """Return one table.

        Raises
        ------
        KeyError
            If the result has no table of this name.
        """
        if self._read is None or name not in self.tables:
            raise KeyError(
                f"{self.kind} {self.name} has no table {name!r}; its tables are {list(self.tables)}"
            )
        return self._read(name)

    def to_pandas(self, table: str | None = None) -> "pd.DataFrame":
        """Return one table, or the summary as one row, as a data frame."""
        if table is not None:
            frame: pd.DataFrame = self.table(table).to_pandas()
            return frame
        return Results([self]).to_pandas()

    def plot(self) -> Any:
        """Return the plot as an Altair chart, drawn by the function that a room registers.

        Raises
        ------
        NotImplementedError
            If results of this kind have no plot.
        BadInput
            If the result has nothing to plot; the message states why.
        """
        from atlas.plugins import find_plotter

        plotter = find_plotter(self.kind)
        if plotter is None:
            raise NotImplementedError(f"Results of the kind {self.kind!r} have no plot.")
        return plotter(self)

    def _ipython_key_completions_(self) -> list[str]:
        """Return what IPython suggests for ``result["``."""
        return list(self.summary)

    def __str__(self) -> str:
        text: str = import_function("atlas.cli.result_text:result_text")(self)
        return text

    def __repr__(self) -> str:
        first = f": {self.verdict[0]}" if self.verdict else ""
        floor = " (floor)" if self.floor else ""
        return shown(f"<{self.kind} {self.name}{floor}{first}>").replace("\n", " ")

    def _repr_html_(self) -> str:
        rows = [(key, _short(value)) for key, value in self.summary.items()]
        return _template().render(result=self, rows=rows)


class Results(list[Result]):
    """The results of a study, one for each SAE, pair or site; those of floors are last."""

    others: tuple[str, ...] = ()
    """Names of the SAEs that were not used because no SAE was named.

    Whether the study can use each of them is not checked; ``saes="all"`` uses those that it can.
    """

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The summaries, as plain dicts."""
        return [dict(one.summary) for one in self]

    @property
    def verdict(self) -> list[str]:
        """The verdict sentences of all results."""
        return [sentence for one in self for sentence in one.verdict]

    @property
    def has_one_trained(self) -> bool:
        """Whether all results except one are those of its floors."""
        return sum(not one.floor for one in self) == 1

    def to_pandas(self, table: str | None = None) -> "pd.DataFrame":
        """Return the summaries, one row each, or one table concatenated over all results.

        Parameters
        ----------
        table
            Name of a table; the summaries if None.

        Returns
        -------
        pandas.DataFrame
            A table has two more columns, which are its first: ``part``, the name of the result
            (an SAE, pair or site), and ``is_floor``, whether the result is of a floor that the study
            added. Without results, the frame is empty.

        Raises
        ------
        KeyError
            If a result has no table of this name.
        """
        import pandas as pd

        if table is None:
            return pd.DataFrame(self.rows)
        if not self:
            return pd.DataFrame()
        frames = [one.to_pandas(table) for one in self]
        for one, frame in zip(self, frames, strict=True):
            frame.insert(0, "part", one.name)
            frame.insert(1, "is_floor", one.floor)
        return pd.concat(frames, ignore_index=True)

    def plot(self) -> Any:
        """Return the plot of the only result; results of floors are not counted.

        Returns
        -------
        altair.Chart
            As ``Result.plot`` returns it.

        Raises
        ------
        BadInput
            If there are several results or none, or nothing to plot; the message states why.
        NotImplementedError
            If results of this kind have no plot.
        """
        own = [one for one in self if not one.floor] or list(self)
        if len(own) == 1:
            return own[0].plot()
        if not own:
            raise BadInput("There are no results, so there is nothing to plot.")
        names = ", ".join(one.name for one in own[:_SHOWN_NAMES])
        more = ", …" if len(own) > _SHOWN_NAMES else ""
        raise BadInput(
            f"There are {len(own):,} results ({names}{more}), and a plot shows one. Select one, such "
            f"as `results[0].plot()` for {own[0].name}."
        )

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Result: ...

    @overload
    def __getitem__(self, index: slice, /) -> "Results": ...

    def __getitem__(self, index: SupportsIndex | slice, /) -> "Result | Results":
        """Return one result, or Results for a slice."""
        if isinstance(index, slice):
            return Results(super().__getitem__(index))
        return super().__getitem__(index)

    def __str__(self) -> str:
        text: str = import_function("atlas.cli.result_text:results_text")(self)
        return text

    def __repr__(self) -> str:
        if not self:
            return "<no results>"
        names = listed([one.name for one in self], _SHOWN_NAMES)
        text = f"<{counted(len(self), 'result')} of {self[0].kind}: {names}>"
        return shown(text).replace("\n", " ")

    def _repr_html_(self) -> str:
        more = len(self) - _SHOWN_ROWS
        parts = "".join(one._repr_html_() for one in self[:_SHOWN_ROWS])
        parts += f"<p>… and {more:,} more</p>" if more > 0 else ""
        return parts + "".join(f"<p>{escape(line)}</p>" for line in self.about_others())

    def about_others(self) -> list[str]:
        """Return a sentence on the SAEs that were not used because no SAE was named; or none."""
        if not self.others:
            return []
        number = len(self.others)
        return [
            f"No SAE was named: {number:,} other {'SAEs were' if number > 1 else 'SAE was'} not "
            'used. For all, pass saes="all".'
        ]


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text.

    Examples
    --------
    >>> sentences_of("One, e.g. 1. Two.")
    ['One, e.g. 1.', 'Two.']
    """
    return _END.split(text)


@cache
def _template() -> "Template":
    from jinja2 import Environment

    return Environment(autoescape=True).from_string(
        "<b>{{ result.kind }} {{ result.name }}</b>"
        "{% for sentence in result.verdict %}<p>{{ sentence }}</p>{% endfor %}"
        "<table>{% for key, value in rows %}"
        "<tr><th>{{ key }}</th><td>{{ value }}</td></tr>"
        "{% endfor %}</table>"
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and len(value) > 6:
        return f"{len(value):,} items"
    return str(value)
