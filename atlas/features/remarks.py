"""Remarks on an SAE whose numbers are no evidence about its features."""

__all__ = ["about_few_tokens", "about_fvu", "rarest_seen"]

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
