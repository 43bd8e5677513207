"""The training record of an SAE: ``training.json`` in its folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import BrokenPart, RequestError
from ingest.train.settings import TrainSettings
from ingest.train.specs import SaeSpec

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel
    from ingest.text.tokenization import ContextSettings
    from ingest.train.text import TrainingText

__all__ = ["NOTE", "Last", "is_finished", "origin_of", "sources_of", "training_record"]

NOTE = "training.json"

#: Increased when the same texts and settings give other SAEs.
VERSION = 1

#: Settings that select SAEs, and those that do not change a trained SAE.
_WITHOUT_EFFECT = frozenset(
    (
        "sites",
        "widths",
        "seeds",
        "architectures",
        "k",
        "baselines",
        "tokens",
        "steps",
        "epochs",
        "context",
        "quality_tokens",
        "device",
    )
)


@dataclass(frozen=True)
class Last:
    """The last buffer of an SAE in training.

    Parameters
    ----------
    fvu
        Squared error of its steps / centred sum of squares of its inputs.
    l0
        Active features per token of its last batch.
    dead_share
        Share of features that were not active in many steps.
    """

    fvu: float
    l0: float
    dead_share: float


def origin_of(
    spec: SaeSpec,
    model: "LanguageModel",
    text: "TrainingText",
    *,
    settings: TrainSettings,
    contexts: "ContextSettings",
    steps: int,
) -> dict[str, Any]:
    """Return everything that the training of an SAE depends on.

    The number format of the model is included, the device and the versions of libraries are not.
    """
    own = {k: v for k, v in asdict(settings).items() if k not in _WITHOUT_EFFECT}
    return {
        "version": VERSION,
        "site": spec.site,
        "width": spec.width,
        "k": spec.k,
        "architecture": spec.architecture,
        "seed": spec.seed,
        "role": spec.role,
        "model_weights": model.weights,
        "model_digest": model.parameters([spec.site])[-1],
        "model_dtype": model.dtype,
        "tokenizer": model.tokenizer_key,
        "text_id": text.corpus.info.id,
        "text_tokens": text.epoch_tokens,
        "settings": own | asdict(contexts) | {"steps": steps},
    }


def sources_of(model: "LanguageModel", text: "TrainingText") -> dict[str, Any]:
    """Return the names and sources of model and text, for the training record."""
    info = text.corpus.info
    return {
        "model": model.name,
        "model_source": model.source,
        "model_revision": model.revision,
        "text": info.name,
        "text_source": info.source,
        "text_revision": info.revision,
    }


def training_record(
    spec: SaeSpec,
    origin: Mapping[str, Any],
    sources: Mapping[str, Any],
    *,
    steps: int,
    last: Last | None,
    arithmetic: Mapping[str, str],
) -> dict[str, Any]:
    """Return the content of ``training.json``.

    ``arithmetic`` is how numbers were computed (see ``ingest.precision.arithmetic``).
    ``tokens`` counts the tokens of all steps. ``last_buffer`` has FVU, L0 and dead share of the
    last buffer in training; it is null for an untrained SAE.
    """
    return {
        **origin,
        **sources,
        "floor_of": spec.floor_of,
        "tokens": steps * origin["settings"]["batch"],
        "steps": steps,
        "last_buffer": last and asdict(last),
        "arithmetic": dict(arithmetic),
    }


def is_finished(folder: Path, origin: dict[str, Any], *, replace: bool) -> bool:
    """Return whether a folder has the SAE of an origin.

    Parameters
    ----------
    folder
        Folder of the SAE; it need not exist.
    origin
        Everything that its training depends on.
    replace
        Whether to train it again if the folder has another SAE.

    Raises
    ------
    RequestError
        If the folder has another SAE or something else, and ``replace`` is false.
    BrokenPart
        If its training record cannot be read.
    """
    if not folder.exists():
        return False
    path = folder / NOTE
    if not path.exists():
        if replace and (folder / "cfg.json").exists():
            return False
        raise RequestError(
            f"{folder} exists and has no {NOTE}, so it is no SAE of `atlas train`. Name another folder with `out`."
        )
    try:
        stored = json.loads(path.read_text("utf-8"))
        found = {name: stored[name] for name in origin}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenPart(
            f"{path} cannot be read ({error}). Remove the folder {folder} and run the same command again."
        ) from error
    if found == origin:
        return True
    if replace:
        return False
    raise RequestError(
        f"{folder} has an SAE that was trained otherwise ({_changes(found, origin)}). To replace it, pass `replace=True`; "
        "to keep it, name another folder with `out`."
    )


def _changes(stored: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str:
    found = []
    for name in sorted({*stored, *now}):
        a, b = stored.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [_changes(a, b, f"{prefix}{name}.")] if a != b else []
        elif a != b:
            found.append(f"{prefix}{name}: {a} stored, {b} now")
    return "; ".join(found)
