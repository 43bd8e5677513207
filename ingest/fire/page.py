"""The features on a typed text as one HTML page without scripts."""

from functools import cache
from typing import TYPE_CHECKING, Any

from atlas.amounts import cell_text
from atlas.safe_text import shown
from ingest.fire.screen import about_few_active_tokens, verdict_of

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["fire_page"]

#: Shade of a token with a feature at its highest quantile.
_DARKEST = 0.85


def fire_page(found: Any) -> str:
    """Return ``TextFeatures`` as a self-contained page, with each token shaded.

    Parameters
    ----------
    found
        The features.
    """
    rows: dict[str, dict[int, list[Any]]] = {}
    for row in found.rows:
        rows.setdefault(row["sae"], {}).setdefault(row["position"], []).append(row)
    saes = [
        (sae, [_token(text, own.get(i, [])) for i, text in enumerate(found.tokens[sae])])
        for sae, own in rows.items()
    ]
    page: str = (
        _environment()
        .get_template("page.html")
        .render(
            saes=saes,
            verdict=verdict_of(found),
            remark=about_few_active_tokens(found.rows),
        )
    )
    return page


def _token(text: str, rows: list[Any]) -> dict[str, Any]:
    highest = max((row["quantile"] or 0.0 for row in rows), default=0.0)
    title = "; ".join(f"{row['feature']} {cell_text(row['activation'])}" for row in rows)
    return {"text": text, "rows": rows, "title": title, "shade": f"{_DARKEST * highest:.3f}"}


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("ingest.fire"), autoescape=True, undefined=StrictUndefined
    )
    found.filters["cell"] = cell_text
    found.filters["shown"] = shown
    return found
