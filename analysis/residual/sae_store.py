"""Store the SAEs of a study with their training record, and check if one is already trained.

Each SAE is stored in ``saes/<name>/`` of the atlas, in the format of sae-lens, with
``training.json``, and ``subtract.safetensors`` if it has a subtraction. The folder appears only
when it is complete.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.residual.train import Arm, Facts, Trained
from atlas.atomic_files import placed_folder, write_json
from atlas.errors import BrokenPart, RequestError
from ingest.sae.activation_transforms import write_subtraction

__all__ = ["finished", "write_sae"]

_NOTE = "training.json"


def finished(folder: Path, origin: dict[str, Any], *, replace: bool) -> Facts | None:
    """Return the training record of a finished SAE; None if it must be trained.

    Parameters
    ----------
    folder
        Folder of the SAE.
    origin
        Everything that its training depends on.
    replace
        Train the SAE again if it was trained with another origin.

    Raises
    ------
    RequestError
        If it was trained with another origin, and ``replace`` is false.
    BrokenPart
        If its training record cannot be read.
    """
    path = folder / _NOTE
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
        stored, facts = record["origin"], Facts(**record["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenPart(
            f"{path} cannot be read ({error}). Remove the folder {folder} and run the same command again."
        ) from error
    now = json.loads(json.dumps(origin))
    if "parameters" not in stored:  # trained before studies recorded them; `model` is a sample
        now.pop("parameters", None)
    if stored == now:
        return facts
    if replace:
        return None
    differing = sorted(k for k in {*stored, *now} if stored.get(k) != now.get(k))
    changes = "; ".join(f"{k}: {stored.get(k)} stored, {now.get(k)} now" for k in differing)
    raise RequestError(
        f"{folder} has an SAE of a study of this name with other settings ({changes}). To replace that study, pass "
        "--replace; to keep it, pass another --name."
    )


def write_sae(folder: Path, arm: Arm, trained: Trained, *, origin: dict[str, Any]) -> None:
    """Write a trained SAE; an interruption leaves no partial folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with placed_folder(folder) as temporary:
        trained.sae.save_inference_model(temporary)
        if arm.less is not None:
            write_subtraction(temporary, arm.less)
        write_json(temporary / _NOTE, {"origin": origin, "facts": asdict(trained.facts)})
