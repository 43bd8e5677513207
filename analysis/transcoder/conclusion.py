"""What the numbers of a map allow to be said, in words."""

from collections.abc import Mapping
from typing import Any

__all__ = ["conclusion"]


def conclusion(edge: Mapping[str, Any]) -> str:
    """Return what may be concluded from an edge MAPS_TO.

    Parameters
    ----------
    edge
        Its properties, ``source`` and ``target``, and ``source_width`` (dimensions of the
        source) where it is known: without it, it is not said that tokens are fewer.
    """
    about = f"{edge['source']} -> {edge['target'].rpartition('/')[2]}"
    score, token = edge["r2_weighted"], edge["token_r2_weighted"]
    if edge["source"] == edge["target"]:
        return f"{about}: the same site, so the map is the identity and nothing is left."
    if score is None:
        return f"{about}: no dimension of the target varies, so there is nothing to predict."
    said = [f"{about}: an affine map predicts {score:.1%} of the variance held out{_between(edge)}"]
    if token is None:
        return said[0] + "."
    said.append(f"; the means of each token id predict {token:.1%}. ")
    said.append(_beside(edge))
    said.append(_weak(edge))
    return "".join(said)


def _between(edge: Mapping[str, Any]) -> str:
    low, high = edge["r2_low"], edge["r2_high"]
    return "" if low is None else f" (95% interval {low:.1%} to {high:.1%}, the map held fixed)"


def _beside(edge: Mapping[str, Any]) -> str:
    """Compare the map with the token means, by the interval of their difference."""
    if open_by := _open_by(edge):
        return (
            f"Nothing is said of which is more: without a penalty, {open_by} may leave the map open; "
            "leave out --penalty, or give one above 0."
        )
    low, high = edge.get("token_difference_low"), edge.get("token_difference_high")
    if low is None or high is None:
        again = "" if edge["r2_low"] is None else " of the difference; map again with --replace"
        return f"No interval was drawn{again}, so nothing is said of which is more."
    said = (
        f"The map less the means: {edge['token_difference']:+.1%} (95% interval {low:+.1%} to {high:+.1%}, the same "
        "documents drawn for both). "
    )
    if low <= 0 <= high:
        return said + "At this size the two cannot be told apart."
    if high < 0 and edge["method"] == "adam":
        return said + (
            "So this training told less than the token; the closed form says what a map can tell."
        )
    if high < 0:
        return said + "So an affine map of the source tells less than the token alone."
    inside = edge["token_eta2_weighted"]
    if edge["source"].endswith("/hook_embed") or inside is None or edge["r2_low"] <= inside:
        return said + (
            "That the map passes the means need say no more than which token it is: means of rare ids "
            "are poor, and more text would raise them."
        )
    return said + "So the source holds, linearly, more than which token it is."


def _underdetermined(edge: Mapping[str, Any]) -> bool:
    """Say whether the tokens of a fold, which lose one to the mean, are too few for one least squares."""
    width = edge.get("source_width")
    return edge["penalty"] is not None and width is not None and edge["fit_tokens"] <= width


def _open_by(edge: Mapping[str, Any]) -> str:
    """Say what leaves a map without penalty open, if anything does."""
    if edge["penalty"] != 0:
        return ""
    if _underdetermined(edge):
        return "so few tokens"
    width = edge.get("source_width")
    if width is None or edge["rank"] >= width:
        return ""
    # Few ids at the embedding, or a dimension that never varies.
    return f"{edge['rank']:,} directions in {width:,} dimensions of the source"


def _weak(edge: Mapping[str, Any]) -> str:
    said = ""
    if _underdetermined(edge):
        few = "fewer" if edge["fit_tokens"] < edge["source_width"] else "no more"
        said += (
            f" {edge['fit_tokens']:,} tokens to fit on are {few} than the {edge['source_width']:,} "
            "dimensions of the source, so only ridge can be tried; more text would raise the share."
        )
    elif edge["penalty"] is not None and edge["fit_tokens"] <= 10 * edge["rank"]:
        said += (
            f" {edge['fit_tokens']:,} tokens are few for {edge['rank']:,} directions of the source; more "
            "text would raise the share."
        )
    inside = edge["r2_in_sample_weighted"]
    if inside is not None and inside - edge["r2_weighted"] > 0.02:
        said += f" On the tokens it was fitted on it is {inside:.1%}."
    share, published = edge["bos_share"], edge["r2_published"]
    if share is not None and share > 0.05:
        said += f" {share:.0%} of the error of a map with BOS lies on BOS."
    if published is not None and abs(published - edge["r2_weighted"]) > 0.02:
        bos = "" if share is None else "BOS in, "
        said += f" As the source counted ({bos}one mean, in sample) it would be {published:.1%}."
    return said + " What is left is not thereby computed: see the controls of `atlas residual`."
