"""The marks that a chart draws, each with its rows and axes."""

from dataclasses import dataclass


@dataclass
class Mark:
    """A mark: its type, its encoding, and the rows that it draws."""

    type: str
    encoding: dict
    rows: list

    def field(self, channel):
        return self.encoding[channel].get("field")


def marks(chart):
    """Return the marks of a chart, in the order in which they are drawn."""
    spec = chart.to_dict()
    return list(_marks(spec, spec.get("datasets", {}), []))


def _marks(spec, datasets, rows):
    if "name" in spec.get("data", {}):
        rows = datasets[spec["data"]["name"]]
    for name in ("layer", "hconcat", "vconcat", "concat"):
        for inner in spec.get(name, []):
            yield from _marks(inner, datasets, rows)
    if "spec" in spec:
        yield from _marks(spec["spec"], datasets, rows)
    if "mark" in spec:
        kind = spec["mark"]["type"] if isinstance(spec["mark"], dict) else spec["mark"]
        yield Mark(kind, spec.get("encoding", {}), rows)


def titles(chart):
    """Return the title and the subtitle lines of a chart."""
    title = chart.to_dict()["title"]
    return [title["text"], *title.get("subtitle", [])]


def axis_titles(chart):
    """Return the titles of the axes with a scale, over all marks."""
    found = set()
    for mark in marks(chart):
        for channel in ("x", "y"):
            encoding = mark.encoding.get(channel, {})
            axis = encoding.get("axis") or {}
            found.add(encoding.get("title") or axis.get("title"))
    return found - {None}


def row_values(mark, *columns):
    """Return some columns of the rows of a mark, sorted."""
    return sorted(tuple(row[name] for name in columns) for row in mark.rows)
