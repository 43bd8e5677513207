"""The SAEs that the installed sae-lens knows, read from its registry file without importing it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, Mismatch, Missing, UnknownName
from ingest.hub_reach import is_cached
from ingest.model.sites import why_unreadable
from ingest.sae.registry.published import site_of, width_of
from ingest.sae.registry.suggestions import unknown

__all__ = [
    "KnownSae",
    "by_neuronpedia",
    "by_release",
    "check_known",
    "known_saes",
    "releases",
    "search_saes",
]

_PAGE = re.compile(r"^(?:https?://)?(?:www\.)?neuronpedia\.org/")


#: SAEs that are refused, by a word of their name or of the function that converts their files, and
#: the reason.
_REFUSED = {
    "clt": "a cross-layer transcoder writes to several layers, and sae-lens adds up its decoders, so that "
    "its output is that of no layer",
    "crosscoder": "a crosscoder reads several sites or models at once",
    "temporal": "a temporal SAE encodes a complete context at once",
}


@dataclass(frozen=True)
class KnownSae:
    """One SAE of sae-lens' registry.

    Parameters
    ----------
    release, sae_id
        Its name: ``RELEASE:SAE_ID``.
    model
        The model it reads.
    site
        The site it reads, by its name in TransformerLens; empty if the name does not state it.
    repo
        The repository of its weights at the hub.
    path
        The folder or file of its weights in the repository.
    l0
        Mean number of active features per token, as published; None if the registry has none.
    width
        Number of features as its name states it, such as ``16k``; empty if it states none.
    neuronpedia
        Its id at Neuronpedia; empty if it has none.
    refused
        Reason why it cannot be used; empty if it can.
    """

    release: str
    sae_id: str
    model: str
    site: str
    repo: str
    path: str
    l0: float | None
    width: str
    neuronpedia: str
    refused: str = ""

    @property
    def name(self) -> str:
        """The name that ``--sae`` takes."""
        return f"{self.release}:{self.sae_id}"

    @property
    def needs_site(self) -> str:
        """Why the site it reads must be passed; empty if its own can be read."""
        return why_unreadable(self.site)


@cache
def known_saes() -> tuple[KnownSae, ...]:
    """Return all SAEs of the registry, by release and id.

    Raises
    ------
    Missing
        If sae-lens is not installed or has no registry file.
    """
    spec = find_spec("sae_lens")  # does not import it
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [p for folder in folders if (p := Path(folder) / "pretrained_saes.yaml").is_file()]
    if not files:
        raise Missing(
            "sae-lens is not installed, or has no list of SAEs; install sae-lens to use SAEs by name."
        )
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    releases: Mapping[str, Any] = yaml.load(files[0].read_bytes(), Loader=loader)
    return tuple(
        _known(release, about, one) for release, about in releases.items() for one in about["saes"]
    )


def _known(release: str, about: Mapping[str, Any], one: Mapping[str, Any]) -> KnownSae:
    conversion, sae_id = str(about.get("conversion_func") or ""), str(one["id"])
    repo, path = str(about.get("repo_id", "")), str(one.get("path", sae_id))
    page = str(one.get("neuronpedia") or "")
    kind = f"{release} {sae_id} {conversion}".lower()
    return KnownSae(
        release=release,
        sae_id=sae_id,
        model=str(about.get("model", "")),
        site=site_of(conversion, release=release, sae_id=sae_id, path=path),
        repo=repo,
        path=path,
        l0=float(one["l0"]) if one.get("l0") else None,
        width=width_of(sae_id, release, page, repo, path),
        neuronpedia=page,
        refused=next((reason for word, reason in _REFUSED.items() if word in kind), ""),
    )


def search_saes(
    words: str = "", *, short: Mapping[str, tuple[str, str]], cached: bool = False
) -> list[dict[str, Any]]:
    """Return the SAEs whose release, id, model, site or Neuronpedia id contain every word.

    Parameters
    ----------
    words
        Words separated by spaces; case does not matter. All SAEs if empty.
    short
        Release and id by short name.
    cached
        Only SAEs whose weights are in the cache of the hub on this machine.

    Returns
    -------
    list of dict
        ``name`` (for ``--sae``), ``short`` (a shorter name, if any), ``model``, ``site``,
        ``width``, ``l0``, ``neuronpedia``, ``cached`` (whether the cache has its weights)
        and ``refused`` (the reason why it cannot be used, if any).
    """
    names = {f"{release}:{sae_id}": name for name, (release, sae_id) in short.items()}
    wanted = words.lower().split()
    stored = _cached_repositories()
    rows = []
    for one in known_saes():
        row = {
            "name": one.name,
            "short": names.get(one.name, ""),
            "model": one.model,
            "site": one.site,
            "width": one.width,
            "l0": one.l0,
            "neuronpedia": one.neuronpedia,
            "cached": one.repo in stored and is_cached(one.repo, one.path),
            "refused": one.refused
            or ("its site must be passed, by hook= in Python" if one.needs_site else None),
        }
        texts = (one.name, names.get(one.name, ""), one.model, one.site, one.neuronpedia)
        text = " ".join(texts).lower()
        if all(word in text for word in wanted) and (row["cached"] or not cached):
            rows.append(row)
    return rows


def releases(*, short: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the releases: those in the cache first, then those with a short name, then by name.

    Parameters
    ----------
    short
        A pattern of short names, such as ``gemmascope-l{L}``, by release.

    Returns
    -------
    list of dict
        ``release``, ``saes`` (their number), ``cached`` (whether the cache of the hub has the
        weights of one of them), ``short`` and ``model``.
    """
    stored = _cached_repositories()
    found: dict[str, dict[str, Any]] = {}
    for one in known_saes():
        row = found.setdefault(
            one.release,
            {
                "release": one.release,
                "saes": 0,
                "cached": False,
                "short": short.get(one.release, ""),
                "model": one.model,
            },
        )
        row["saes"] += 1
        if one.repo in stored and not row["cached"]:
            row["cached"] = is_cached(one.repo, one.path)
    return sorted(
        found.values(), key=lambda row: (not row["cached"], not row["short"], row["release"])
    )


def check_known(release: str, sae_id: str) -> KnownSae | None:
    """Return an SAE of the registry; None for a repository of the hub, which it does not list.

    Raises
    ------
    UnknownName
        If there is no such release or SAE. Suggested names are of the same model.
    Mismatch
        If SAEs of this kind cannot be read.
    """
    registry: dict[str, dict[str, KnownSae]] = {}
    for one in known_saes():
        registry.setdefault(one.release, {})[one.sae_id] = one
    if release not in registry and "/" not in release:
        hint = "`atlas saes` lists the releases, and `atlas saes WORD` searches them."
        models = {name: next(iter(saes.values())).model for name, saes in registry.items()}
        raise unknown("release of sae-lens", release, registry, models=models, hint=hint)
    if release not in registry:
        return None
    if sae_id not in registry[release]:
        hint = f"`atlas saes {release}` lists them."
        raise UnknownName(f"SAE of {release}", sae_id, known=registry[release], hint=hint)
    known = registry[release][sae_id]
    if known.refused:
        raise Mismatch(
            f"The SAE {known.name} cannot be used: {known.refused}. Use an SAE that encodes each token "
            "by itself at one site, such as one of `atlas saes`."
        )
    return known


def _cached_repositories() -> frozenset[str]:
    """Return the repositories of models in the cache of the hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = Path(HF_HUB_CACHE).glob("models--*")
    return frozenset(f.name.removeprefix("models--").replace("--", "/", 1) for f in folders)


def by_neuronpedia(text: str) -> KnownSae | None:
    """Return the SAE of a Neuronpedia id or page address; None if the text is neither.

    Parameters
    ----------
    text
        ``gpt2-small/8-res-jb``, or the address of the page of the SAE or of one feature.

    Raises
    ------
    BadInput
        If the text is an address of Neuronpedia that no known SAE has.
    """
    is_page = _PAGE.match(text)
    parts = _PAGE.sub("", text).split("?")[0].strip("/").split("/")
    if not is_page and (len(parts) != 2 or ":" in text):
        return None
    found = _by_id().get("/".join(parts[:2]))
    if found is None and is_page:
        raise BadInput(
            f"No SAE that this version of sae-lens knows has the address {text!r}. `atlas saes` lists them."
        )
    return found


def by_release(text: str) -> KnownSae | None:
    """Return the SAE that is named with a slash, ``RELEASE/SAE_ID``; None if there is no such SAE."""
    return _by_name().get(text)


@cache
def _by_name() -> Mapping[str, KnownSae]:
    return {f"{one.release}/{one.sae_id}": one for one in known_saes()}


@cache
def _by_id() -> Mapping[str, KnownSae]:
    return {one.neuronpedia: one for one in known_saes() if one.neuronpedia}
