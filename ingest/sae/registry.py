"""The SAEs that the installed sae-lens knows, read from its registry file without importing it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, Missing

__all__ = ["KnownSae", "by_neuronpedia", "known_saes", "same_family", "search_saes"]

_PAGE = re.compile(r"^(?:https?://)?(?:www\.)?neuronpedia\.org/")
_WIDTH = re.compile(r"(?:^|[_/-])(?:width_|w)?(\d+(?:\.\d+)?[km])(?:[_/-]|$)")


@dataclass(frozen=True)
class KnownSae:
    """One SAE of sae-lens' registry.

    Parameters
    ----------
    release, sae_id
        Its name: ``RELEASE:SAE_ID``.
    model
        The model it reads.
    repo
        The repository of its weights at the hub.
    l0
        Mean number of active features per token, as published; None if the registry has none.
    width
        Number of features as its name states it, such as ``16k``; empty if it states none.
    neuronpedia
        Its id at Neuronpedia; empty if it has none.
    """

    release: str
    sae_id: str
    model: str
    repo: str
    l0: float | None
    width: str
    neuronpedia: str

    @property
    def name(self) -> str:
        """The name that ``--sae`` takes."""
        return f"{self.release}:{self.sae_id}"


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
    width = _WIDTH.search(str(one["id"])) or _WIDTH.search(release)
    return KnownSae(
        release=release,
        sae_id=str(one["id"]),
        model=str(about.get("model", "")),
        repo=str(about.get("repo_id", "")),
        l0=float(one["l0"]) if one.get("l0") else None,
        width=width[1] if width else "",
        neuronpedia=str(one.get("neuronpedia") or ""),
    )


def search_saes(
    words: str = "", *, short: Mapping[str, tuple[str, str]], cached: bool = False
) -> list[dict[str, Any]]:
    """Return the SAEs whose release, id, model or Neuronpedia id contain every word.

    Parameters
    ----------
    words
        Words separated by spaces; case does not matter. All SAEs if empty.
    short
        Release and id by short name.
    cached
        Only SAEs whose repository is in the cache of the hub on this machine.

    Returns
    -------
    list of dict
        ``name`` (for ``--sae``), ``short`` (a shorter name, if any), ``model``, ``width``,
        ``l0``, ``neuronpedia``, and ``cached``: whether the cache has its repository, or a part
        of it.
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
            "width": one.width,
            "l0": one.l0,
            "neuronpedia": one.neuronpedia,
            "cached": one.repo in stored,
        }
        text = " ".join((one.name, names.get(one.name, ""), one.model, one.neuronpedia)).lower()
        if all(word in text for word in wanted) and (row["cached"] or not cached):
            rows.append(row)
    return rows


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


@cache
def _by_id() -> Mapping[str, KnownSae]:
    return {one.neuronpedia: one for one in known_saes() if one.neuronpedia}


def same_family(name: str, known: Sequence[str]) -> list[str]:
    """Return the names whose first word has the same digits as that of a name.

    A suggestion must not be an SAE of another model: ``gemmascope2-l12`` is not ``gemmascope-l12``.
    """
    digits = _digits(name)
    return [other for other in known if _digits(other) == digits]


def _digits(name: str) -> list[str]:
    return re.findall(r"\d+", name.partition("-")[0])
