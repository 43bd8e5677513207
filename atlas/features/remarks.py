"""Remarks on an SAE whose numbers are no evidence about its features."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlas.disk.folder import Folder

__all__ = [
    "ACTIVE_CODES",
    "COMPARED_TOKENS",
    "FLIPPED_CODES",
    "about_few_tokens",
    "about_flips",
    "about_fvu",
    "rarest_seen",
    "stored_flips",
]

#: Names under which the part of an SAE stores the codes that the number format of the model
#: changes: those active in one format only, those active in at least one, and the tokens.
FLIPPED_CODES, ACTIVE_CODES, COMPARED_TOKENS = "flipped codes", "active codes", "compared tokens"

#: Fewer tokens than this are few: features that are active on one token in 33,000 may look dead.
FEW_TOKENS = 100_000

#: Probability of no activation above which a dead feature is no evidence.
UNSEEN = 0.05


def rarest_seen(tokens: int) -> float:
    """Return the rate of activity below which a feature may look dead.

    A feature that is active on each token with probability r, independently, is inactive on all n
    tokens with probability (1 - r)^n. This exceeds 5% if r is below 1 - 0.05^(1/n), about 3/n (the
    "rule of three"). Activity that is clustered in documents needs more tokens.

    Parameters
    ----------
    tokens
        Number of tokens, at least 1.

    Examples
    --------
    >>> round(1 / rarest_seen(188))
    63
    """
    rate: float = 1 - UNSEEN ** (1 / tokens)
    return rate


def about_few_tokens(tokens: int | None) -> list[str]:
    """Return a sentence if so few tokens were read that live features may look dead.

    Examples
    --------
    >>> about_few_tokens(188)[0]
    '188 tokens: a feature rarer than about 1 in 63 tokens may look dead (probability above 5%).'
    """
    if not tokens or tokens >= FEW_TOKENS:
        return []
    one_in = float(f"{1 / rarest_seen(tokens):.2g}")
    return [
        f"{tokens:,} tokens: a feature rarer than about 1 in {one_in:,.0f} tokens may look "
        f"dead (probability above {UNSEEN:.0%})."
    ]


def about_fvu(sae: str, fvu: float | None) -> list[str]:
    """Return a sentence if the reconstruction of an SAE is worse than a constant.

    Examples
    --------
    >>> about_fvu("mine", 2.0)[0]
    'mine reconstructs worse than the mean does (FVU 2): wrong model, hook or normalisation, or random weights.'
    """
    if fvu is None or not fvu > 1:
        return []
    return [
        f"{sae} reconstructs worse than the mean does (FVU {fvu:.3g}): wrong model, hook or "
        "normalisation, or random weights."
    ]


def stored_flips(folder: "Folder | None", sae: str) -> Mapping[str, str]:
    """Return what the part of an SAE stores on flipped codes; empty for a model in float32.

    Parameters
    ----------
    folder
        The folder of the atlas; None on a server, which does not store it.
    sae
        Name of the SAE.

    Returns
    -------
    Mapping
        ``FLIPPED_CODES``, ``ACTIVE_CODES``, ``COMPARED_TOKENS``, and ``format`` of the model.
    """
    part = folder.sound().parts.get(f"sae/{sae}") if folder is not None else None
    names = (FLIPPED_CODES, ACTIVE_CODES, COMPARED_TOKENS)
    if part is None or any(not part.manifest.versions.get(name, "").isdigit() for name in names):
        return {}
    found = {name: part.manifest.versions[name] for name in names}
    return found | {"format": str(part.manifest.dtypes.get("model", "another format"))}


def about_flips(sae: str, stored: Mapping[str, str]) -> list[str]:
    """Return a sentence on the codes that the number format of the model changes.

    Examples
    --------
    >>> stored = {"flipped codes": "3", "active codes": "1200", "compared tokens": "2048"}
    >>> about_flips("mine", stored | {"format": "bfloat16"})
    ['bfloat16 changes 0.25% of the active codes of mine, compared with float32 (2,048 tokens).']
    """
    if not stored:
        return []
    flipped, active, tokens = (
        int(stored[name]) for name in (FLIPPED_CODES, ACTIVE_CODES, COMPARED_TOKENS)
    )
    return [
        f"{stored['format']} changes {flipped / max(1, active):.2%} of the active codes of {sae}, "
        f"compared with float32 ({tokens:,} tokens)."
    ]
