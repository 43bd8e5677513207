"""Models and tokenizers of transformers, from the hub, a folder or memory."""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atlas.errors import BadInput
from ingest.error_translation import check_in_reach, reached
from ingest.folder_checks import check_model_folder, check_model_weights
from ingest.model.digest_cache import DigestCache, files_state
from ingest.model.sites import parse_hook

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = [
    "Loaded",
    "ModelLocation",
    "adopt_model",
    "choose_device",
    "fast_tokenizer",
    "folder_of_files",
    "load_model",
    "locate",
    "read_config",
    "silenced",
]

DEMO_MODELS = Path(__file__).parents[1] / "demo" / "models"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(requested: str) -> torch.device:
    """Return a device by name; ``"auto"`` is cuda, else mps, else cpu.

    Raises
    ------
    BadInput
        If torch or this machine has no such device.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(requested)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f"The device {requested!r} is not on this machine: use 'auto', 'cpu', 'cuda' or 'mps'."
        ) from error
    return device


#: Never run code that comes with a model, and never prompt for permission to.
SAFELY = {"trust_remote_code": False}


@dataclass(frozen=True)
class Loaded:
    """A loaded model without head, and its source.

    Parameters
    ----------
    base
        The model, possibly without its upper blocks.
    config
        The configuration of the complete model.
    name
        Its name; empty for a model created in memory.
    source, revision
        As in ``LanguageModel``.
    path
        Folder or hub name of its tokenizer; None for a model in memory.
    cache
        The stored digests of its files; None if they cannot be used.
    """

    base: "PreTrainedModel"
    config: "PretrainedConfig"
    name: str
    source: str
    revision: str | None = None
    path: str | None = None
    cache: DigestCache | None = None


@dataclass(frozen=True)
class ModelLocation:
    """The location of a model: the path for transformers, and the names for the atlas.

    Parameters
    ----------
    path
        A folder, or a name at the hub.
    name, source
        As in ``Loaded``.
    repo
        The repository at the hub; None for a folder.
    """

    path: str
    name: str
    source: str
    repo: str | None


def locate(model_or_name: str | Path) -> ModelLocation:
    """Return the location of a model: a model of the demo, a folder, or a repository at the hub.

    Raises
    ------
    BadInput
        If it is a path without a model.
    """
    text = str(model_or_name)
    if isinstance(model_or_name, str) and text in _demo_names():
        return ModelLocation(str(DEMO_MODELS / text), text, text, None)
    try:
        folder = Path(model_or_name).expanduser()
    except RuntimeError as error:  # ~user without an account on this machine
        raise BadInput(f"There is no folder {text!r}: {error}") from error
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadInput(
                f"The folder {text!r} holds no config.json. Name the folder of a model that "
                "transformers saved."
            )
        check_model_folder(folder)
        return ModelLocation(str(folder), folder.resolve().name, text, None)
    if isinstance(model_or_name, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise BadInput(
            f"There is no folder {text!r}. Name the folder of a model, or its name at the hub."
        )
    repo = text if "/" in text else _hub_name(text)
    return ModelLocation(repo, repo, repo, repo)


def _demo_names() -> list[str]:
    return [path.parent.name for path in DEMO_MODELS.glob("*/config.json")]


def _hub_name(short: str) -> str:
    """Return the hub name for a short name of TransformerLens, as metadata of SAEs use them."""
    from transformer_lens.supported_models import MODEL_ALIASES

    for official, others in MODEL_ALIASES.items():
        if short in others:
            return str(official)
    return short


def load_model(
    model_or_name: str | Path,
    *,
    hooks: Sequence[str],
    device: str,
    dtype: str,
    revision: str | None,
    kwargs: Mapping[str, Any],
) -> Loaded:
    """Load a model without its head, and without the blocks above the deepest hook.

    The parameters and errors are those of ``open_model``.
    """
    if kwargs.get("trust_remote_code"):
        raise BadInput(
            "trust_remote_code was requested, and code of a model's own is never run. Use a model of an "
            "architecture that transformers supports."
        )
    kwargs = {k: v for k, v in kwargs.items() if k not in (*SAFELY, "use_safetensors")}
    where, target = locate(model_or_name), choose_device(device)
    if where.repo:
        check_in_reach("model", where.name, repo=where.repo, path="config.json")
    from transformers import AutoModel

    number_format = torch.float32 if dtype == "auto" else _dtype(dtype)
    began, before = time.time_ns(), files_state(_folder(where.path, revision))
    with reached("model", where.name, repo=where.repo), silenced():
        config = read_config(where, revision=revision, **kwargs)
        full_config = config.get_text_config()
        needed = _blocks_needed(hooks, full_config, where.name)
        if where.repo is None:
            check_model_weights(Path(where.path))
        base, report = AutoModel.from_pretrained(
            where.path,
            config=_first_blocks(config, needed),
            dtype=number_format,
            revision=revision,
            output_loading_info=True,
            **SAFELY,
            use_safetensors=True,
            **kwargs,
        )
        base.to(target)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise BadInput(
            f"{len(missing)} parameters of the model {where.name!r} are missing from its files, such as "
            f"{missing[0]}. The files are incomplete, or belong to another model than their config.json. "
            "Download or save the model again."
        )
    base.requires_grad_(False).eval()
    commit = _commit(where.repo, revision)
    after = None if kwargs else files_state(_folder(where.path, commit or revision))
    cache = DigestCache.of(before, after, dtype=str(number_format), began=began)
    return Loaded(
        _text_part(base), full_config, where.name, where.source, commit, where.path, cache
    )


def read_config(where: ModelLocation, *, revision: str | None, **kwargs: Any) -> "PretrainedConfig":
    """Return the configuration of a causal language model; call it within ``reached``.

    Raises
    ------
    BadInput
        If the model is an encoder-decoder.
    """
    from transformers import AutoConfig

    from ingest.model.synthetic_features import register

    register()
    config: PretrainedConfig = AutoConfig.from_pretrained(
        where.path, revision=revision, **SAFELY, **kwargs
    )
    if config.is_encoder_decoder:
        raise BadInput(
            f"{where.name} is an encoder-decoder ({config.model_type}); a causal language "
            "model was expected."
        )
    return config


def adopt_model(model_or_name: Any, *, device: str, dtype: str) -> Loaded:
    """Use a model in memory without a copy; the parameters and errors are those of ``open_model``."""
    from transformers import PreTrainedModel

    if not isinstance(model_or_name, PreTrainedModel):
        raise BadInput(
            f"A {type(model_or_name).__name__} was passed as a model; a transformers model, its name at the "
            "hub or its folder was expected."
        )
    if device != "auto":
        model_or_name.to(choose_device(device))  # type: ignore[arg-type]
    if dtype != "auto":
        _cast(model_or_name, _dtype(dtype))
    base = _text_part(model_or_name.base_model)
    name = model_or_name.name_or_path or ""
    if name and Path(name).is_dir():
        name = Path(name).resolve().name
    return Loaded(base, base.config, name, "memory")


def fast_tokenizer(model_or_name: Any, *, revision: str | None = None) -> Any:
    """Return a fast tokenizer; load it if the argument is a hub name or folder.

    Raises
    ------
    Missing, BadInput
        If it cannot be loaded, or is not a fast one.
    """
    if isinstance(model_or_name, str | Path):
        from transformers import AutoTokenizer

        name = str(model_or_name)
        with reached("tokenizer", name, repo=None if Path(name).is_dir() else name), silenced():
            model_or_name = AutoTokenizer.from_pretrained(name, revision=revision, **SAFELY)
    if not getattr(model_or_name, "is_fast", False):
        raise BadInput(
            f"A {type(model_or_name).__name__} was passed as tokenizer; a fast tokenizer of transformers "
            "was expected, since only these report which characters a token covers."
        )
    return model_or_name


def folder_of_files(loaded: Loaded) -> Path | None:
    """Return the folder of the files of a model; None if it was not loaded or the folder is unknown."""
    return None if loaded.path is None else _folder(loaded.path, loaded.revision)


def _folder(path: str, revision: str | None) -> Path | None:
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(path, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def _commit(repo: str | None, revision: str | None) -> str | None:
    """Return the commit that was loaded, which is the name of its folder in the cache."""
    from huggingface_hub import try_to_load_from_cache

    config = repo and try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) and config else None


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise BadInput(f"The number format {name!r} is none of auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def _cast(model: "PreTrainedModel", number_format: torch.dtype) -> None:
    """Cast a model in place as loading from files does: computed buffers retain their format.

    The frequencies of rotary embeddings are such buffers. Rounded to bfloat16, their angles at
    position 1,000 are wrong by up to two radians.
    """
    computed = [
        (module, name, module._buffers[name])
        for module in model.modules()
        for name in module._non_persistent_buffers_set
    ]
    model.to(number_format)  # type: ignore[arg-type]  # transformers' wrapper hides the types
    for module, name, buffer in computed:
        module._buffers[name] = buffer


def _blocks_needed(hooks: Sequence[str], config: "PretrainedConfig", name: str) -> int:
    if not hooks:
        return int(config.num_hidden_layers)
    layers = [parse_hook(hook, model=name, layers=config.num_hidden_layers)[0] for hook in hooks]
    return 1 + max(0 if layer is None else layer for layer in layers)


def _first_blocks(config: "PretrainedConfig", blocks: int) -> "PretrainedConfig":
    """Return a copy of the configuration that has only its first blocks."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    if text.model_type == "gpt_neo":
        return config  # lists its blocks by repeated patterns; small enough to load all of them
    text.num_hidden_layers = blocks
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:blocks]
    return config


def _text_part(base: Any) -> Any:
    """Return the language model within a multimodal model."""
    return getattr(base, "language_model", base)


@contextmanager
def silenced() -> Iterator[None]:
    """Silence transformers' report on the unused head, and its progress bars."""
    from transformers import utils

    logging: Any = utils.logging  # untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
