"""Residual SAEs, trained on a site minus an affine prediction of it, and their controls.

>>> from analysis.residual import ResidualSettings
>>> ResidualSettings("hook_embed", "blocks.1.hook_resid_post", seeds=2, draws=5).saes
16
"""

from analysis.residual.settings import ResidualSettings

__all__ = ["ResidualSettings"]
