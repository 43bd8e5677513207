"""Checks of an SAE or model folder before any of its files is loaded.

Folders are untrusted. Their JSON may have any shape and depth, their weights may contradict
it, and older formats of weights are pickles, which run code when they are loaded. The checks
read only the configuration and the headers of safetensors files. They run before memory is
allocated and before a library opens the folder.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, Mismatch
from atlas.studies.floors import ROLES

__all__ = [
    "check_model_folder",
    "check_model_weights",
    "check_sae_folder",
    "check_training_record",
    "is_one_line",
    "read_json_object",
]

LARGEST_JSON = 64 << 20
"""Largest size of a configuration in bytes; real ones have a few kilobytes."""
WIDEST = 1 << 24
"""Largest width of an SAE or a model: 16 million."""
_FACTORS = frozenset({"scaling_factor", "finetuning_scaling_factor"})
"""Factors of features that fine-tuning in old versions of sae-lens added."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")

Rule = tuple[Callable[[Any], bool], str]


def _whole(low: int, high: int) -> Rule:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return fits, f"an integer from {low:,} to {high:,}"


def _number(value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and math.isfinite(value)


def is_one_line(value: Any) -> bool:
    """Return whether a value is a string of one line, without control characters."""
    return isinstance(value, str) and len(value) < 4096 and value.isprintable()


_TEXT: Rule = (is_one_line, "a string of one line")
_YES_NO: Rule = (lambda v: isinstance(v, bool), "true or false")
_NUMBER: Rule = (_number, "a finite number")
_OBJECT: Rule = (lambda v: isinstance(v, dict), "a JSON object")
_TEXTS: Rule = (
    lambda v: isinstance(v, list) and all(isinstance(t, str) for t in v),
    "a list of strings",
)

_SAE: Mapping[str, Rule] = {
    "architecture": _TEXT,
    "d_in": _whole(1, WIDEST),
    "d_sae": _whole(1, WIDEST),
    "d_out": _whole(1, WIDEST),
    "k": _whole(1, WIDEST),
    "dtype": _TEXT,
    "normalize_activations": _TEXT,
    "reshape_activations": _TEXT,
    "apply_b_dec_to_input": _YES_NO,
    "rescale_acts_by_decoder_norm": _YES_NO,
    "metadata": _OBJECT,
}
_METADATA: Mapping[str, Rule] = {
    "model_name": _TEXT,
    "hook_name": _TEXT,
    "hf_hook_name": _TEXT,
    "hook_name_out": _TEXT,
    "hf_hook_name_out": _TEXT,
    "hook_head_index": _whole(0, WIDEST),
    "context_size": _whole(1, 1 << 31),
    "prepend_bos": _YES_NO,
    "seed": _whole(-(1 << 63), (1 << 63) - 1),
    "neuronpedia_id": _TEXT,
    "dataset_path": _TEXT,
    "model_from_pretrained_kwargs": _OBJECT,
    "sae_lens_version": _TEXT,
}
_TRAINING: Mapping[str, Rule] = {
    "role": (lambda v: isinstance(v, str) and v in ROLES, f"one of {', '.join(ROLES)}"),
    "floor_of": _TEXT,
    "seed": _whole(-(1 << 63), (1 << 63) - 1),
    "k": _whole(1, WIDEST),
    "settings": _OBJECT,
}
_MODEL: Mapping[str, Rule] = {
    "model_type": _TEXT,
    "architectures": _TEXTS,
    **dict.fromkeys(
        (
            "hidden_size",
            "n_embd",
            "intermediate_size",
            "n_inner",
            "vocab_size",
            "head_dim",
            "max_position_embeddings",
            "n_positions",
        ),
        _whole(1, 1 << 31),
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "n_layer",
            "num_layers",
            "num_attention_heads",
            "n_head",
            "num_heads",
            "num_key_value_heads",
        ),
        _whole(1, 1 << 16),
    ),
}


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    BadInput
        If it cannot be read, is too large, is nested too deeply, or is not an object.
    """
    try:
        if not path.is_file():
            raise BadInput(f"{path} is not a file; expected a JSON file.")
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise BadInput(
                f"{path} has {size >> 20:,} MiB; expected a configuration of at most "
                f"{LARGEST_JSON >> 20} MiB."
            )
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # a text that is not UTF-8 is a ValueError
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadInput(f"{path} is not valid JSON ({reason}); copy the folder again.") from error
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}); copy the folder again."
        ) from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds {_short(content)}; expected a JSON object.")
    return content


def check_sae_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Check the configuration of an SAE, and the shapes of its weights against it.

    Parameters
    ----------
    folder
        The folder, with ``sae_weights.safetensors``.
    config
        The content of its ``cfg.json``.

    Raises
    ------
    BadInput
        If a field has the wrong type or is out of range, or a tensor has another shape.
    Mismatch
        If the weights have a factor per feature that is not applied.
    """
    path = folder / "cfg.json"
    _check(config, _SAE, path)
    _check(config.get("metadata") or {}, _METADATA, path, "metadata.")
    for name in ("d_in", "d_sae"):
        if config.get(name) is None:
            raise BadInput(f"{path} has no {name}; expected an integer.")
    for name in ("metadata", "k"):  # optional, but never null
        if name in config and config[name] is None:
            raise BadInput(f"{path} has {name} null; remove it, or copy the folder again.")
    d_in, d_sae = config["d_in"], config["d_sae"]
    d_out = config.get("d_out", d_in)  # of transcoders
    if config.get("k") is not None and config["k"] > d_sae:
        raise BadInput(
            f"{path} has k {config['k']:,}, but the SAE has {d_sae:,} features; expected a k of at "
            "most that."
        )
    weights = folder / "sae_weights.safetensors"
    shapes = _shapes(weights)
    expected = {
        "W_enc": (d_in, d_sae),
        "W_dec": (d_sae, d_out),
        "b_enc": (d_sae,),
        "b_dec": (d_out,),
        "threshold": (d_sae,),
        "b_gate": (d_sae,),
        "b_mag": (d_sae,),
        "r_mag": (d_sae,),
        "W_skip": (d_out, d_in),
        **dict.fromkeys(_FACTORS, (d_sae,)),
    }
    for name, shape in shapes.items():
        if name in expected and shape != expected[name]:
            raise BadInput(
                f"{weights}: {name} has shape {shape}; expected {expected[name]} for an SAE with d_in "
                f"{d_in:,} and d_sae {d_sae:,}. The two files are of different SAEs."
            )
    if "W_dec" not in shapes:
        raise BadInput(f"{weights} has no W_dec; expected an SAE saved by sae-lens.")
    for name in sorted(_FACTORS & shapes.keys()):
        _check_factor(weights, name)
    if (folder / "activation_scaler.json").exists():
        scale = read_json_object(folder / "activation_scaler.json").get("scaling_factor")
        if scale is not None and not (_number(scale) and scale > 0):
            raise BadInput(
                f"{folder / 'activation_scaler.json'} has scaling_factor {_short(scale)}; expected a "
                "number above 0."
            )


def _check_factor(weights: Path, name: str) -> None:
    """Check that the factors of the features, which are not applied, are all 1."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        factors = file.get_tensor(name)
    differ = int((factors != 1).sum())
    if differ:
        raise Mismatch(
            f"{weights}: {name} differs from 1 for {differ:,} of {len(factors):,} features. This legacy "
            "scaling multiplies the activations before decoding, and sae-lens 6 does not apply it. Multiply "
            f"each row of W_dec by its factor, and save the SAE without {name}."
        )


def check_training_record(path: Path, content: Mapping[str, Any]) -> None:
    """Check the content of the ``training.json`` of an SAE.

    Raises
    ------
    BadInput
        If a field has the wrong type or is out of range.
    """
    _check(content, _TRAINING, path)


def check_model_folder(folder: Path) -> None:
    """Check the configuration of a model folder.

    Raises
    ------
    BadInput
        If a field has the wrong type or is out of range, or the model requires its own code.
    """
    path = folder / "config.json"
    config = read_json_object(path)
    _check(config, _MODEL, path)
    if isinstance(config.get("text_config"), dict):
        _check(config["text_config"], _MODEL, path, "text_config.")
    if config.get("auto_map") is not None:
        raise BadInput(
            f"{path} names code of its own (auto_map), which is never run; expected a model of an "
            "architecture that transformers has."
        )


def check_model_weights(folder: Path) -> None:
    """Check that the weights of a model folder are safetensors with valid headers.

    Raises
    ------
    BadInput
        If they are pickled, missing or damaged.
    """
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
        if pickled:
            raise BadInput(
                f"The folder {folder} has its weights in {pickled[0]}, a format that may run code when it is "
                "loaded; expected safetensors. Save the model again with save_pretrained, on a machine that "
                "may run that code."
            )
        raise BadInput(f"The folder {folder} has no weights; expected *.safetensors.")
    for file in sorted(folder.glob("*.safetensors")):
        _shapes(file)


def _check(
    config: Mapping[str, Any], rules: Mapping[str, Rule], path: Path, prefix: str = ""
) -> None:
    for name, (fits, expected) in rules.items():
        value = config.get(name)
        if value is not None and not fits(value):
            raise BadInput(
                f"{path} has {prefix}{name} {_short(value)}; expected {expected}. Correct the file, or copy "
                "the folder again."
            )


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes in the header of a safetensors file, after a check against its size."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names: Sequence[str] = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read ({error}): it is damaged, or not a safetensors file. Copy it again."
        ) from error


def _short(value: Any) -> str:
    """Return a value for a message, cut to 60 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # an integer of thousands of digits has no repr
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"
