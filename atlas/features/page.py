"""The card of a feature as HTML: in a notebook, or as a page of its own."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["card_page", "card_section"]


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
    return {
        "card": card,
        "bars": [(row, 100 * row["count"] / most) for row in card.histogram],
        "groups": _groups(card, highest),
        "link": card.neuronpedia if str(card.neuronpedia).startswith("https://") else None,
    }


def _groups(
    card: Any, highest: float
) -> list[tuple[str, list[tuple[float, list[tuple[str, float, int, bool]]]]]]:
    """Return the examples by kind: activation, and text, activation, shade and peak of each token."""
    groups: dict[str, list[tuple[float, list[tuple[str, float, int, bool]]]]] = {}
    for one in card.examples:
        groups.setdefault(one.kind, []).append((one.activation, _shaded(one, highest)))
    return list(groups.items())


def _shaded(example: Any, highest: float) -> list[tuple[str, float, int, bool]]:
    return [
        (
            text.replace("\n", "↵"),
            value,
            # Any activity is visible: shades begin at 10 of 100.
            round(10 + 75 * value / highest) if value > 0 < highest else 0,
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
