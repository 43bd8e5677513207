"""Conclusions from the scores of an affine map, in words."""

from collections.abc import Mapping
from typing import Any

__all__ = ["conclusion"]


def conclusion(edge: Mapping[str, Any]) -> str:
    """Return the conclusions that an edge MAPS_TO supports.

    Parameters
    ----------
    edge
        Properties of the edge, ``source`` and ``target``, and ``source_width`` (dimensions of the
        source) if known; too few tokens are reported only with this width.
    """
    about = f"{edge['source']} -> {edge['target'].rpartition('/')[2]}"
    score, token = edge["r2_weighted"], edge["token_r2_weighted"]
    if edge["source"] == edge["target"]:
        return f"{about}: source and target are the same site, so the map is the identity and the residual is 0."
    if score is None:
        return f"{about}: no dimension of the target varies, so there is nothing to predict."
    first = f"{about}: an affine map explains {score:.1%} of the held-out variance{_between(edge)}"
    if token is None:
        return f"{first}."
    means = f"; the means of token ids explain {token:.1%}. "
    return first + means + _comparison(edge) + _caveats(edge)


def _between(edge: Mapping[str, Any]) -> str:
    low, high = edge["r2_low"], edge["r2_high"]
    return "" if low is None else f" (95% interval {low:.1%} to {high:.1%}, with the map fixed)"


def _comparison(edge: Mapping[str, Any]) -> str:
    """Compare the map with the token means, by the interval of their difference."""
    if reason := _undetermined_by(edge):
        return (
            f"The two are not compared: without a penalty, {reason} may not determine the map. Omit `penalties`, or "
            "pass one above 0."
        )
    low, high = edge.get("token_difference_low"), edge.get("token_difference_high")
    if low is None or high is None:
        if edge["r2_low"] is None:
            return "No interval was computed, so the two are not compared."
        return (
            "No interval of the difference is stored, so the two are not compared; to compute it, map again with "
            "`replace=True`."
        )
    difference = (
        f"Map minus token means: {edge['token_difference']:+.1%} (95% interval {low:+.1%} to {high:+.1%}, paired over "
        "documents). "
    )
    if low <= 0 <= high:
        return difference + "At this sample size the two are not distinguishable."
    if high < 0 and edge["method"] == "adam":
        return difference + (
            "This trained map predicts less than the token id; the closed form shows what an affine map can predict."
        )
    if high < 0:
        return difference + "An affine map of the source predicts less than the token id alone."
    inside = edge["token_eta2_weighted"]
    if edge["source"].endswith("/hook_embed") or inside is None or edge["r2_low"] <= inside:
        return difference + (
            "This does not show information beyond the token id, because the means of rare ids are poor; more text "
            "would raise them."
        )
    return difference + "The source contains linear information beyond the token id."


def _underdetermined(edge: Mapping[str, Any]) -> bool:
    """Return whether a fit has too few tokens, minus one for the mean, for a unique least-squares map."""
    width = edge.get("source_width")
    return edge["penalty"] is not None and width is not None and edge["fit_tokens"] <= width


def _undetermined_by(edge: Mapping[str, Any]) -> str:
    """Return why a map without penalty may not be unique; empty if it is."""
    if edge["penalty"] != 0:
        return ""
    if _underdetermined(edge):
        return "so few tokens"
    width = edge.get("source_width")
    if width is None or edge["rank"] >= width:
        return ""
    # The embedding has few distinct ids, or a dimension is constant.
    return f"{edge['rank']:,} directions in {width:,} dimensions of the source"


def _caveats(edge: Mapping[str, Any]) -> str:
    """Return sentences on few tokens, overfitting and BOS, each with a leading space."""
    caveats = ""
    if _underdetermined(edge):
        few = "fewer" if edge["fit_tokens"] < edge["source_width"] else "no more"
        caveats += (
            f" The fit has {edge['fit_tokens']:,} tokens, {few} than the {edge['source_width']:,} dimensions of the "
            "source, so only ridge penalties can be tried; more text would raise the share."
        )
    elif edge["penalty"] is not None and edge["fit_tokens"] <= 10 * edge["rank"]:
        caveats += (
            f" {edge['fit_tokens']:,} tokens are few for {edge['rank']:,} directions of the source; more "
            "text would raise the share."
        )
    inside = edge["r2_in_sample_weighted"]
    if inside is not None and inside - edge["r2_weighted"] > 0.02:
        caveats += f" In sample, the map explains {inside:.1%}."
    share, published = edge["bos_share"], edge["r2_published"]
    if share is not None and share > 0.05:
        caveats += f" BOS has {share:.0%} of the error of a map with BOS."
    if published is not None and abs(published - edge["r2_weighted"]) > 0.02:
        bos = "" if share is None else "with BOS, "
        caveats += (
            f" In the form of the original study ({bos}one mean, in sample), R² is {published:.1%}."
        )
    return caveats + (
        " This does not show that the model computes the residual; see the controls of `atlas residual`."
    )
