"""The folders of a study's SAEs: where they lie, when one is finished, what its training told.

Each lies in ``saes/<name>/`` of the atlas, as sae-lens saved it, with ``subtract.safetensors``
where it reads less than the target, and ``training.json``. It is there once it is whole.
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
    """Return what the training of a finished SAE told; None if it is to be trained.

    Parameters
    ----------
    folder
        Its folder.
    origin
        All that its training depends on.
    replace
        Train it anew if it was trained otherwise.

    Raises
    ------
    Asked
        If it was trained otherwise, and is not to be replaced.
    BrokenPart
        If what it says of its training cannot be read.
    """
    path = folder / _NOTE
    if not path.exists():
        return None
    try:
        said = json.loads(path.read_text("utf-8"))
        there, facts = said["origin"], Facts(**said["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenPart(
            f"{path} cannot be read ({error}); remove the folder {folder} and give the same command again."
        ) from error
    now = json.loads(json.dumps(origin))
    if "parameters" not in there:  # trained before studies recorded them; `model` is a sample
        now.pop("parameters", None)
    if there == now:
        return facts
    if replace:
        return None
    differing = sorted(k for k in {*there, *now} if there.get(k) != now.get(k))
    told = "; ".join(f"{k}: {there.get(k)} there, {now.get(k)} now" for k in differing)
    raise RequestError(
        f"{folder} holds an SAE of a study of this name that was made otherwise ({told}). Add --replace to make "
        "the study anew, or give this one another name with --name."
    )


def write_sae(folder: Path, arm: Arm, trained: Trained, *, origin: dict[str, Any]) -> None:
    """Write a trained SAE, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with placed_folder(folder) as beside:
        trained.sae.save_inference_model(beside)
        if arm.less is not None:
            write_subtraction(beside, arm.less)
        write_json(beside / _NOTE, {"origin": origin, "facts": asdict(trained.facts)})
