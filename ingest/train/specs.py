"""The SAEs of a training run: their names, and everything that their training depends on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, TypeAlias

from atlas.errors import BadInput
from ingest.sae.info import slug
from ingest.train.settings import Architecture, TrainSettings

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel

__all__ = ["EXPANSION", "Role", "SaeSpec", "all_specs"]

#: Default number of features for each dimension of the site.
EXPANSION = 8

Role: TypeAlias = Literal["trained", "frozen-decoder", "frozen-encoder", "untrained"]


@dataclass(frozen=True)
class SaeSpec:
    """One SAE to train.

    Parameters
    ----------
    name
        Name of its folder, a slug.
    site
        Site that it reads.
    d_in, width
        Dimensions of the site, and number of features.
    k
        Active features per token; see ``TrainSettings``.
    architecture
        Architecture in training.
    seed
        Seed of the weights and of the order of tokens.
    role
        ``"trained"``, or the kind of floor.
    floor_of
        Name of the trained SAE of which it is a floor; None for a trained SAE.
    draw
        Seed of the initial weights. A trained SAE and its floors have the same one; SAEs that
        differ in model, site, width, k, architecture or seed have independent ones.
    """

    name: str
    site: str
    d_in: int
    width: int
    k: int
    architecture: Architecture
    seed: int
    role: Role
    floor_of: str | None
    draw: int


def all_specs(model: "LanguageModel", settings: TrainSettings) -> list[SaeSpec]:
    """Return the SAEs that some settings ask for, each trained SAE followed by its floors.

    Raises
    ------
    UnknownName, Mismatch
        If the model has no such site.
    BadInput
        If a width is below the dimensions of its site, or k is above the width.
    """
    return [spec for site in settings.sites for spec in _at(site, model, settings)]


def _at(site: str, model: "LanguageModel", settings: TrainSettings) -> Iterator[SaeSpec]:
    d_in = model.site(site).width
    widths = settings.widths or (EXPANSION * d_in,)
    for architecture, width, k, seed in product(
        settings.architectures, widths, settings.k, settings.seeds
    ):
        _check(width, k, d_in, site=site)
        name = _name(model.name, site, f"{architecture}-{width}-k{k}-s{seed}")
        draw = _draw(model.weights, site, architecture, width, k, seed)
        yield SaeSpec(
            name, site, d_in, width, k, architecture, seed, "trained", floor_of=None, draw=draw
        )
        for floor in settings.baselines or ():
            yield SaeSpec(
                f"{name}-{floor}",
                site,
                d_in,
                width,
                k,
                architecture,
                seed,
                floor,
                floor_of=name,
                draw=draw,
            )


def _check(width: int, k: int, d_in: int, *, site: str) -> None:
    if width < d_in:
        raise BadInput(
            f"The width is {width}, but {site} has {d_in} dimensions; expected at least as many "
            f"features. Pass `widths=({EXPANSION * d_in},)`, for example."
        )
    if k > width:
        raise BadInput(
            f"k is {k}, but the width is {width}; expected at most one active feature for each. Pass a "
            "smaller `k` or a larger `widths`."
        )


def _name(model: str, site: str, rest: str) -> str:
    """Return a name: ``tiny-a-l1-resid_post-topk-768-k32-s0``."""
    short = model.rstrip("/").split("/")[-1]
    where = "embed"
    if site != "hook_embed":
        _, layer, hook = site.split(".", 2)
        where = f"l{layer}-{hook.replace('hook_', '')}"
    return slug(f"{short}-{where}-{rest}")


def _draw(*of: object) -> int:
    digest = hashlib.sha256(" ".join(map(str, of)).encode()).digest()
    return int.from_bytes(digest[:7], "little")
