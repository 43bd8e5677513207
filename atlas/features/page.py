"""The card of a feature as HTML: in a notebook, or as a page of its own."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["card_page", "card_section"]


#: Shades of the lowest and of the highest activation, of 100: any activity is visible.
_SHADES = (10, 85)

#: Tables with few columns, which stand next to the examples.
_SIDE = ("Promoted tokens", "Suppressed tokens", "Tokens")

_KINDS = {
    "top": "Highest activations",
    "fifth 5": "Sample from the highest fifth of the range",
    "fifth 4": "Sample from the fourth fifth",
    "fifth 3": "Sample from the middle fifth",
    "fifth 2": "Sample from the second fifth",
    "fifth 1": "Sample from the lowest fifth",
}


def card_page(card: Any) -> str:
    """Return a ``FeatureCard`` as a self-contained page without scripts."""
    page: str = _environment().get_template("page.html").render(**_values(card))
    return page


def card_section(card: Any) -> str:
    """Return a ``FeatureCard`` for a notebook, as one ``div``."""
    section: str = _environment().get_template("card.html").render(**_values(card))
    return section


def _values(card: Any) -> dict[str, Any]:
    highest = max((max(one.activations) for one in card.examples), default=0.0)
    most = max((row["count"] for row in card.histogram), default=0)
    by_title = {table.title: table for table in card.tables}
    return {
        "card": card,
        "bars": [(row, 100 * row["count"] / most) for row in card.histogram],
        "most": most,
        "highest": highest,
        "shades": _SHADES,
        "groups": _groups(card, highest),
        "side": [by_title[title] for title in _SIDE if title in by_title],
        "wide": [table for table in card.tables if table.title not in _SIDE],
        "kinds": _KINDS,
        "link": card.neuronpedia if str(card.neuronpedia).startswith("https://") else None,
    }


def _groups(
    card: Any, highest: float
) -> list[tuple[str, list[tuple[float, list[tuple[str, float, int, bool]]]]]]:
    """Return the examples by kind: activation of the sampled token, and of
    each token its text, activation, shade, and whether it is the sampled one."""
    groups: dict[str, list[tuple[float, list[tuple[str, float, int, bool]]]]] = {}
    for one in card.examples:
        groups.setdefault(one.kind, []).append((one.activation, _shaded(one, highest)))
    return list(groups.items())


def _shaded(example: Any, highest: float) -> list[tuple[str, float, int, bool]]:
    return [
        (
            text.replace("\n", "↵"),
            value,
            round(_SHADES[0] + (_SHADES[1] - _SHADES[0]) * value / highest)
            if value > 0 < highest
            else 0,
            i == example.peak,
        )
        for i, (text, value) in enumerate(zip(example.tokens, example.activations, strict=True))
    ]


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from atlas.amounts import cell_text

    environment = Environment(
        loader=PackageLoader("atlas.features"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["cell"] = cell_text
    return environment
