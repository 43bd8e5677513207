"""What ``atlas fire`` prints: a verdict, and the strongest features on each token."""

from collections.abc import Mapping, Sequence
from typing import Any

from atlas.amounts import counted, listed
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, print_text

__all__ = ["about_few_active_tokens", "about_omitted", "print_features", "verdict_of"]

_COLUMNS = ("feature", "activation", "quantile", "top_token")

# Active tokens below which a quantile gets a remark: one token changes it by more than 5%.
_FEW_TOKENS = 20


def print_features(found: Any, *, by_sae: bool) -> Sequence[Mapping[str, Any]]:
    """Print ``TextFeatures``, and return the rows that were printed.

    Parameters
    ----------
    found
        The features.
    by_sae
        Print a table for each SAE, instead of the strongest feature of all SAEs on each token.
    """
    if not found.rows:
        echo("No feature is active on this text.")
        return []
    print_text(verdict_of(found))
    return _show_by_sae(found.rows) if by_sae else _show_strongest(found.rows)


def verdict_of(found: Any) -> str:
    """Return what the strongest feature of ``TextFeatures`` is, and how strong one is expected to be.

    In a text like the corpus, the quantile of each activation is uniform between 0 and 1. The highest
    of n independent ones is n / (n + 1) on average.

    Parameters
    ----------
    found
        The features.
    """
    rows = found.rows
    if not rows:
        return "No feature is active on this text."
    best = max(rows, key=_order)
    saes = {row["sae"] for row in rows}
    tokens: dict[str, set[int]] = {}
    for row in rows:
        tokens.setdefault(row["model"], set()).add(row["position"])
    several = len(tokens) > 1
    each = [
        counted(len(at), "token") + (f" of {model}" if several else "")
        for model, at in tokens.items()
    ]
    size = f"{counted(len(saes), 'SAE')}; {' and '.join(each)} with active features."
    token = f"on the token {best['token']!r}"
    if best["quantile"] is None:
        return f"{size} The strongest feature is {best['feature']}, {token}."
    few = best["active_tokens"] is not None and best["active_tokens"] < _FEW_TOKENS
    number = counted(best["active_tokens"], "activation") if few else "activations"
    active = sum(found.active.values())
    return (
        f"{size} The strongest feature is {best['feature']}, {token}: at least as high as {best['quantile']:.1%} "
        f"of its {number} in the corpus (estimated; the lower bound is {best['quantile_low']:.1%}). "
        + _conclusion(best["quantile_low"], best["active_tokens"], active)
    )


def _conclusion(quantile: float, tokens: int | None, active: int) -> str:
    """State whether the highest quantile of a text is unusual among so many activations.

    ``quantile`` is a lower bound: equal activations, as of features on the first token of a text, share
    a bin of the histogram. The quantile of one activation, of ``tokens`` in the corpus, has p = (1 + number at least as
    high) / (1 + tokens). The highest of ``active`` independent ones has 1 - (1 - p) ** active.
    """
    one = 1 - quantile if tokens is None else (1 + (1 - quantile) * tokens) / (1 + tokens)
    p = 1 - (1 - min(one, 1.0)) ** active
    special = "unusual" if p <= _UNUSUAL else "nothing special"
    chance = "over 99%" if p > 0.99 else f"{p:.1%}" if p >= 0.001 else "under 0.1%"
    return (
        f"This is {special} for the highest of {counted(active, 'activation')}: in a text like the corpus, one "
        f"would be at least as high with probability {chance}, if activations were independent "
        f"(unusual: at most {_UNUSUAL:.0%})."
    )


#: Largest probability of a quantile that the verdict calls unusual.
_UNUSUAL = 0.05


def _order(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return the key by which features are ranked, the strongest last."""
    quantile = -1.0 if row["quantile"] is None else row["quantile"]
    return quantile, row["activation"]


def about_few_active_tokens(rows: Sequence[Mapping[str, Any]]) -> str:
    """Name the features whose quantile is computed from few tokens; empty if there are none.

    Parameters
    ----------
    rows
        Rows of ``TextFeatures``.

    Examples
    --------
    >>> about_few_active_tokens([{"feature": "a/1", "quantile": 1.0, "active_tokens": 3}])
    'Quantiles from fewer than 20 active tokens are not reliable: a/1 (3 tokens).'
    """
    few = {
        row["feature"]: row["active_tokens"]
        for row in rows
        if row["quantile"] is not None
        and row["active_tokens"] is not None
        and row["active_tokens"] < _FEW_TOKENS
    }
    if not few:
        return ""
    ordered = sorted(few.items(), key=lambda one: one[1])
    names = [f"{name} ({counted(tokens, 'token')})" for name, tokens in ordered]
    return (
        f"Quantiles from fewer than {_FEW_TOKENS} active tokens are not reliable: "
        f"{listed(names, 3)}."
    )


def about_omitted(found: Any, *, top: int | None) -> str:
    """State how many of the active features of a token are printed.

    Parameters
    ----------
    found
        The features.
    top
        The features of each SAE in ``found``, if only the strongest over all SAEs is printed; else None.
    """
    saes = len(found.tokens)
    tokens = sum(map(len, found.tokens.values())) / saes
    active = sum(found.active.values()) / tokens
    if top is not None:
        return (
            f"The strongest feature on each token, of {counted(sum(found.active.values()), 'activation')} of "
            f"{counted(saes, 'SAE')} on this text. --rows shows {top} of each SAE; --top sets this number."
        )
    return (
        f"Shown: {len(found.rows) / saes / tokens:.3g} of {active / saes:.3g} active features per token and SAE, "
        "on average. --top shows more."
    )


def _show_strongest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Print and return a row for each token: the strongest feature over all SAEs of the model."""
    printed: list[Mapping[str, Any]] = []
    models = list(dict.fromkeys(row["model"] for row in rows))
    for model in models:
        found: dict[int, Mapping[str, Any]] = {}
        for row in rows:
            at = row["position"]
            if row["model"] == model and (at not in found or _order(row) > _order(found[at])):
                found[at] = row
        shown = [{c: row[c] for c in ("token", *_COLUMNS)} for _, row in sorted(found.items())]
        if len(models) > 1:
            echo()
        print_table(shown, title=f"Model {model}" if len(models) > 1 else "")
        printed += found.values()
    return printed


def _show_by_sae(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Print a table for each SAE, with all its rows; return the rows."""
    for name in dict.fromkeys(row["sae"] for row in rows):
        shown: list[dict[str, Any]] = []
        last = -1
        for row in (r for r in rows if r["sae"] == name):
            repeated = row["position"] == last
            last = row["position"]
            shown.append(
                {"token": "" if repeated else row["token"], **{c: row[c] for c in _COLUMNS}}
            )
        echo()
        print_table(shown, title=name)
    return rows
