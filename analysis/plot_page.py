"""A plot as one HTML page that works offline: interactive, narrow on a phone, dark in dark mode."""

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["PAPER", "ScriptSafe", "in_dark", "plot_page"]

#: Background of a page in dark mode.
PAPER = "#181818"

#: Lowest relative luminance of a colour in dark mode: a contrast of 3 with ``PAPER`` (WCAG 2, 1.4.11).
_LEAST = 0.13

#: Greys at least as light as this are not marks, and may stay faint.
_FAINT = 224

_NAMED = {"white": "#ffffff", "black": "#000000", "grey": "#808080", "gray": "#808080"}
_HEX = re.compile("#(?:[0-9a-fA-F]{3}){1,2}")


class ScriptSafe(json.JSONEncoder):
    """Encode JSON for a script element, so that no string in it can end the element."""

    def encode(self, o: Any) -> str:
        """Return the JSON with ``<``, ``>``, ``&`` and Unicode line separators escaped."""
        return re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", super().encode(o))


def plot_page(spec: dict[str, Any]) -> str:
    """Return a Vega-Lite specification as a complete page that embeds Vega.

    The page loads nothing and sends nothing. If it is wider than its window, charts of a row are put
    below each other, and then made narrower.

    Parameters
    ----------
    spec
        The specification, with its data.
    """
    import altair as alt
    import vl_convert

    version = "_".join(alt.SCHEMA_VERSION.split(".")[:2])
    # Its type stub omits the default of the first argument.
    library = vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]
    dark = _dark({name: part for name, part in spec.items() if name != "datasets"})
    return _template().render(
        title=_title(spec),
        paper=PAPER,
        library=library.replace("</script", "<\\/script"),
        spec=json.dumps(spec, cls=ScriptSafe),
        dark=json.dumps(dark, cls=ScriptSafe),
    )


def in_dark(colour: str) -> str:
    """Return a colour for dark mode: greys inverted, and dark hues lightened.

    Examples
    --------
    >>> in_dark("white"), in_dark("#4c78a8")
    ('#181818', '#4c78a8')
    """
    code = _NAMED.get(colour, colour).lstrip("#")
    if len(code) == 3:
        code = "".join(2 * digit for digit in code)
    rgb = [int(code[i : i + 2], 16) for i in (0, 2, 4)]
    if max(rgb) - min(rgb) <= 16:
        low, light = int(PAPER[1:3], 16), min(rgb)
        rgb = [round(low + (245 - low) * (1 - one / 255)) for one in rgb]
        if light >= _FAINT:  # white and grid lines
            return _code(rgb)
    while _luminance(rgb) < _LEAST:
        rgb = [one + max(1, (255 - one) // 8) for one in rgb]
    return _code(rgb)


def _code(rgb: list[int]) -> str:
    return "#" + "".join(f"{one:02x}" for one in rgb)


def _luminance(rgb: list[int]) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    linear = [
        (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
        for c in (x / 255 for x in rgb)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _dark(value: Any) -> Any:
    """Return a part of a specification with all colours but those in its data for dark mode."""
    if isinstance(value, str):
        return in_dark(value) if value in _NAMED or _HEX.fullmatch(value) else value
    if isinstance(value, list):
        return [_dark(each) for each in value]
    if isinstance(value, dict):
        # Names in domains and data are no colours, even if they look like one.
        return {k: v if k in ("data", "domain", "sort") else _dark(v) for k, v in value.items()}
    return value


def _title(spec: dict[str, Any]) -> str:
    """Return the title of a specification, or of its first chart that has one."""
    title = spec.get("title")
    text = title.get("text") if isinstance(title, dict) else title
    if text:
        return " ".join(text) if isinstance(text, list) else str(text)
    inner = (
        one for name in ("hconcat", "vconcat", "concat", "layer") for one in spec.get(name, [])
    )
    return next((found for found in map(_title, inner) if found), "")


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("analysis"), autoescape=True)
    return environment.get_template("plot.html")
