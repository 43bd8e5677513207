"""Provenance: how a result was computed, and on which atlas, text and SAEs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.disk.parts import Manifest, Part, installed
from atlas.studies.collected_provenance import collect

if TYPE_CHECKING:
    from atlas.studies.results import Result
    from atlas.studies.study import TaskContext

__all__ = ["provenance_of", "with_provenance"]


def with_provenance(
    result: "Result", at: "TaskContext", *, saes: Sequence[str], settings: Any, **more: Any
) -> "Result":
    """Return a result that no part stores, with its provenance; ``--json`` of its command has it too.

    Parameters
    ----------
    result
        The result of a function that does not call ``atlas.studies.runner.run_study``.
    at
        Its atlas.
    saes
        The SAEs that it is about.
    settings
        The settings of its computation, a dataclass.
    **more
        Further values that the result depends on, such as a strength; they are recorded as settings.
    """
    manifest = Manifest(
        kind=result.kind,
        name=result.name,
        version=1,
        saes=tuple(saes),
        settings={**asdict(settings), **more},
        seed=getattr(settings, "seed", None),
        versions=installed(),
    )
    result.atlas, result.saes, result.settings = at.url, manifest.saes, manifest.settings
    result.provenance = provenance_of(Part(Path(), manifest), at)
    collect([result])
    return result


def provenance_of(part: Part, at: "TaskContext") -> dict[str, Any]:
    """Return the provenance of the result that a part stores.

    Parameters
    ----------
    part
        The part.
    at
        Its atlas.

    Returns
    -------
    dict
        ``part`` is its key, ``hash`` its SHA-256 and ``created`` its time, both None if it is not stored.
        ``settings``, ``seed`` and ``version``, the version of Feature Atlas, are those of the
        computation. ``saes`` has the SHA-256 of the weights of each SAE. ``text`` has the name and
        the digest of the text, and ``atlas`` the name and the uuid of the atlas. What is not
        recorded, such as on a server, is None.
    """
    manifest = part.manifest
    folder = None if at.on_server else at.folder
    corpus = None if folder is None else folder.corpus
    return {
        "part": manifest.key,
        "hash": manifest.hash if manifest.created else None,
        "created": manifest.created or None,
        "version": manifest.versions.get("feature-atlas"),
        # As they are read from the manifest, also if they were just computed.
        "settings": json.loads(json.dumps(dict(manifest.settings), sort_keys=True)),
        "seed": manifest.seed,
        "saes": {name: _digest(name, at) for name in manifest.saes},
        "text": None if corpus is None else {"name": corpus["name"], "digest": corpus["id"]},
        "atlas": None if folder is None else {"name": folder.name, "uuid": folder.uuid},
    }


def _digest(sae: str, at: "TaskContext") -> str | None:
    part = at.sound.parts.get(f"sae/{sae}")
    source = {} if part is None else part.manifest.sources.get("sae", {})
    return source.get("weights")
