"""Loading of SAEs of sae-lens from its registry, a folder or memory, to encode flat float32 input."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, Mismatch
from ingest.error_translation import check_in_reach, reached
from ingest.folder_checks import check_sae_folder, read_json_object
from ingest.sae.activation_transforms import Subtraction, read_subtraction
from ingest.sae.registry.known import check_known
from ingest.sae.registry.names import DEMO_SAES, demo_names, resolve, short_names
from ingest.sae.training_record import TrainingRecord, read_training_record

__all__ = [
    "LoadedSae",
    "load_sae",
]


#: Architectures of sae-lens that violate the assumptions of this program, and the reason.
REFUSED = {
    "abstopk": "its activations may be negative",
    "temporal": "it encodes a complete context at once",
}

#: Normalisations that must have been folded into the weights, as sae-lens does after training.
UNFOLDED = ("expected_average_only_in", "covariance_whitening")


@dataclass(frozen=True)
class LoadedSae:
    """An SAE object of sae-lens, and its source.

    Parameters
    ----------
    sae
        The object: on the CPU, in float32, without gradients, with flat input.
    name
        Its name; empty for one in memory.
    source
        ``release:sae_id``, the folder, the name of a demo SAE, or ``"memory"``.
    release, sae_id
        Its entry in sae-lens' registry, if it came from there.
    less
        The subtraction applied to the activations before it reads them, if its folder has one.
    training
        Its record of training, if its folder has one.
    """

    sae: Any
    name: str
    source: str
    release: str | None = None
    sae_id: str | None = None
    less: Subtraction | None = None
    training: TrainingRecord | None = None


def load_sae(sae_or_name: Any, *, hook: str | None = None) -> LoadedSae:
    """Load an SAE; the forms and errors are those of ``open_sae``."""
    if isinstance(sae_or_name, str | Path):
        loaded = _by_name(sae_or_name, hook=hook)
    else:
        loaded = LoadedSae(_copied(sae_or_name), "", "memory")
    _check(loaded)
    loaded.sae.turn_off_forward_pass_hook_z_reshaping()
    loaded.sae.requires_grad_(False).eval()
    return loaded


def _by_name(sae_or_name: str | Path, *, hook: str | None = None) -> LoadedSae:
    text = str(sae_or_name)
    if not text.strip():
        raise BadInput(
            "The name of an SAE is empty. Name a folder, a short name or RELEASE:SAE_ID; `atlas saes` "
            "searches the SAEs of sae-lens."
        )
    if isinstance(sae_or_name, str) and text in demo_names():
        return _from_folder(DEMO_SAES / text, name=text, source=text)
    is_short = isinstance(sae_or_name, str) and text in short_names()
    folder = Path(sae_or_name).expanduser()
    if not is_short and folder.is_dir():
        return _from_folder(folder, name=folder.resolve().name, source=text)
    if isinstance(sae_or_name, Path) or text.startswith((".", "~", os.sep)):
        raise BadInput(f"There is no folder {text!r}. Name the folder of an SAE saved by sae-lens.")
    release, sae_id, name = resolve(text, hook=hook)
    return _from_release(release, sae_id, name=name)


# ---------------------------------------------------------------- the registry


def _from_release(release: str, sae_id: str, *, name: str) -> LoadedSae:
    # Names are checked before sae-lens is imported, which takes seconds.
    known = check_known(release, sae_id)
    repo, path = (known.repo, known.path) if known else (release, sae_id)
    source = f"{release}:{sae_id}"
    check_in_reach("SAE", source, repo=repo, path=path)
    from sae_lens import SAE

    with reached("SAE", source, repo=repo), _without_advice():
        sae = SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
    return LoadedSae(sae, name, source, release, sae_id)


# ---------------------------------------------------------------- folders


def _from_folder(folder: Path, *, name: str, source: str) -> LoadedSae:
    from sae_lens import SAE
    from sae_lens.registry import SAE_CLASS_REGISTRY

    config = _read_config(folder)
    architecture = config.get("architecture", "standard")
    if not isinstance(architecture, str) or architecture not in SAE_CLASS_REGISTRY:
        raise BadInput(
            f"The SAE in {folder} is a {architecture!r}, which sae-lens cannot encode with (known: "
            f"{', '.join(sorted(SAE_CLASS_REGISTRY))}). If it is a training checkpoint, save it "
            "with save_inference_model."
        )
    if not (folder / "sae_weights.safetensors").is_file():
        raise BadInput(
            f"The folder {folder} holds no sae_weights.safetensors next to its cfg.json. Copy or save the "
            "SAE again."
        )
    check_sae_folder(folder, config)
    with reached("SAE", str(folder)), _without_advice():
        sae = SAE.load_from_disk(folder, device="cpu", dtype="float32", converter=_converter)
    if sae.cfg.normalize_activations == "expected_average_only_in":
        _fold_scale(sae, folder / "activation_scaler.json")
    less = read_subtraction(folder, d_in=int(sae.cfg.d_in))
    return LoadedSae(sae, name, source, less=less, training=read_training_record(folder))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "cfg.json"
    if not path.exists():
        raise BadInput(
            f"The folder {folder} holds no cfg.json. Name the folder of an SAE saved by sae-lens."
        )
    return read_json_object(path)


def _converter(path: Any, device: str, cfg_overrides: dict[str, Any] | None) -> Any:
    """Read a folder as sae-lens does, but retain metadata without a version.

    sae-lens treats such a file as one in its old flat format and drops the
    metadata silently.
    """
    from sae_lens.loading.pretrained_sae_loaders import sae_lens_disk_loader

    config, state = sae_lens_disk_loader(path, device, cfg_overrides)
    metadata = config.get("metadata")
    if isinstance(metadata, dict) and not config.get("sae_lens_version"):
        metadata.setdefault("sae_lens_version", "6.0.0")
    return config, state


def _fold_scale(sae: Any, path: Path) -> None:
    """Fold the activation scale of a training checkpoint into the weights, if its file exists."""
    if path.is_file():
        scale = read_json_object(path).get("scaling_factor")
        if scale is not None:
            sae.fold_activation_norm_scaling_factor(float(scale))


# ---------------------------------------------------------------- memory


def _copied(sae_or_name: Any) -> Any:
    """Copy an SAE in memory, so that later changes of the user's object have no effect."""
    from sae_lens import SAE, TrainingSAE

    if not isinstance(sae_or_name, SAE):
        raise BadInput(
            f"A {type(sae_or_name).__name__} was passed as an SAE; a name, a folder or an SAE object of "
            "sae-lens was expected."
        )
    with _without_advice():
        if isinstance(sae_or_name, TrainingSAE):
            # sae-lens turns training SAEs (batch top-k, ...) into inference ones only on disk.
            with tempfile.TemporaryDirectory() as folder:
                sae_or_name.save_inference_model(folder)
                return SAE.load_from_disk(folder, device="cpu", dtype="float32")
        config = {**sae_or_name.cfg.to_dict(), "device": "meta", "dtype": "float32"}
        copy = SAE.from_dict(config)
    state = {
        k: v.detach().to("cpu", copy=True).float() for k, v in sae_or_name.state_dict().items()
    }
    copy.load_state_dict(state, assign=True)
    return copy.to(device="cpu")


# ---------------------------------------------------------------- checks


def _check(loaded: LoadedSae) -> None:
    config = loaded.sae.cfg
    subject = f"The SAE {loaded.name!r}" if loaded.name else "The SAE in memory"
    architecture = config.architecture()
    if architecture in REFUSED:
        raise Mismatch(
            f"{subject} is of architecture {architecture}: {REFUSED[architecture]}. An atlas does not "
            "support this. Use a standard, gated, topk or jumprelu SAE, or a transcoder."
        )
    centred = (config.metadata.model_from_pretrained_kwargs or {}).get("center_writing_weights")
    if centred and "transcoder" in architecture:
        raise Mismatch(
            f"{subject} is a transcoder of a model whose weights were centred (center_writing_weights). Its "
            "output can then not be compared with the activations of the unchanged model. Use a transcoder of "
            "the unchanged model."
        )
    if config.normalize_activations in UNFOLDED:
        raise BadInput(
            f"{subject} expects its input normalised by numbers that are not in its files "
            f"({config.normalize_activations}). Fold them into its weights first, as sae-lens does "
            "at the end of training."
        )
    _check_finite(loaded.sae, subject)


def _check_finite(sae: Any, subject: str) -> None:
    """Check that no parameter has NaN or Inf, also where no code of a text would show it."""
    import torch

    for name, values in sae.state_dict().items():
        # A sum needs no memory; one that is finite has finite terms only.
        if not values.is_floating_point() or torch.isfinite(values.sum()):
            continue
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            index = ", ".join(map(str, bad[0].tolist()))
            raise BadInput(
                f"{subject} is damaged: {name}[{index}] is {values[tuple(bad[0])].item()}, and finite "
                f"numbers are expected; {len(bad):,} of {values.numel():,} values of {name} are not "
                "finite. Copy, download or train it again."
            )


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence sae-lens' advice on loading the model in TransformerLens; this package follows it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from_pre")
        warnings.filterwarnings("ignore", message="norm_scaling_factor not found")
        yield
