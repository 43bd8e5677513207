"""Residual SAEs: trained on what an affine map leaves of a place, beside a baseline and controls.

>>> from analysis.residual import ResidualSettings
>>> ResidualSettings("hook_embed", "blocks.1.hook_resid_post", seeds=2, draws=5).saes
16
"""

from analysis.residual.settings import ResidualSettings

__all__ = ["ResidualSettings"]
