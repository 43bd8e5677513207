"""A complete language model with its head: next-token logits, also with the activations of a site replaced."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from atlas.errors import Mismatch
from ingest.error_translation import memory_errors, reached
from ingest.folder_checks import check_model_weights
from ingest.model.loading import SAFELY, locate, read_config, silenced
from ingest.model.sites import SiteModule, find_site_module, layout_of, parse_hook
from ingest.precision import ieee_float32

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ingest.model.language_model import LanguageModel

__all__ = ["Edit", "NextTokenModel", "check_head", "open_next_token_model"]

Edit: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Returns the new activations of a site, both of shape (batch, position, width)."""


@dataclass(frozen=True, eq=False)
class NextTokenModel:
    """A causal language model with all its blocks and its head.

    Parameters
    ----------
    name
        Its name.
    causal
        The transformers model.
    """

    name: str
    causal: "PreTrainedModel"

    def logits(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        edits: Mapping[str, Edit] | None = None,
    ) -> torch.Tensor:
        """Return the logits of the next token at each position.

        Parameters
        ----------
        input_ids, attention_mask
            As for ``LanguageModel.run``.
        edits
            By TransformerLens name of a site, a function that replaces its activations.
            Everything after the site is computed from the new activations. A function
            that returns its input changes nothing.

        Returns
        -------
            float32, (batch, position, vocabulary).

        Raises
        ------
        UnknownName, Mismatch
            If the model has no such site.
        OutOfSpace
            If the batch does not fit into memory.
        """
        device = self.causal.device
        with (
            memory_errors(f"the logits of {tuple(input_ids.shape)} tokens in {self.name}"),
            ieee_float32(),
            torch.inference_mode(),
            self._edited(edits or {}),
        ):
            out = self.causal(
                input_ids=input_ids.to(device),
                attention_mask=attention_mask.to(device),
                use_cache=False,
            )
            logits: torch.Tensor = out.logits.float()
        return logits

    @contextmanager
    def _edited(self, edits: Mapping[str, Edit]) -> Iterator[None]:
        base: Any = self.causal.base_model
        base = getattr(base, "language_model", base)
        layout, layers = layout_of(base), base.config.num_hidden_layers
        with ExitStack() as undo:
            for module in [m for m in self.causal.modules() if m.training]:
                undo.callback(setattr, module, "training", True)
                module.training = False
            for hook, edit in edits.items():
                site = find_site_module(base, layout, hook, name=self.name, layers=layers)
                undo.callback(_replace(site, edit).remove)
                layer, rest = parse_hook(hook, model=self.name, layers=layers)
                if rest == "hook_resid_mid":
                    block = base.get_submodule(f"{layout.blocks}.{layer}")
                    undo.enter_context(_carried(site, block))
            yield


def _replace(site: SiteModule, edit: Edit) -> Any:
    """Replace the input or the first output of a module; return the handle of the hook."""
    if site.side == "input":

        def before(_: Any, args: Any, named: Any) -> Any:
            if args:
                return (edit(args[0]), *args[1:]), named
            return args, named | {"hidden_states": edit(named["hidden_states"])}

        return site.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_: Any, __: Any, output: Any) -> Any:
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

    return site.module.register_forward_hook(after)


@contextmanager
def _carried(site: SiteModule, block: Any) -> Iterator[None]:
    """Add an edit of the stream after attention to the output of the block.

    The module of that site is the norm before the MLP, and the block adds the unedited stream
    to the output of the MLP.
    """
    changes: list[torch.Tensor] = []
    original: list[torch.Tensor] = []

    def first(_: Any, args: Any, named: Any) -> None:
        original.append(args[0] if args else named["hidden_states"])

    def last(_: Any, args: Any, named: Any) -> None:
        changes.append((args[0] if args else named["hidden_states"]) - original.pop())

    before = site.module.register_forward_pre_hook(first, with_kwargs=True, prepend=True)
    after = site.module.register_forward_pre_hook(last, with_kwargs=True)

    def add(x: torch.Tensor) -> torch.Tensor:
        return x + changes.pop()

    outer = _replace(SiteModule(block, "output", site.width), add)
    try:
        yield
    finally:
        for handle in (before, after, outer):
            handle.remove()


def open_next_token_model(
    model: "LanguageModel", given: "str | Path | PreTrainedModel"
) -> NextTokenModel:
    """Open the complete model that a ``LanguageModel`` was opened from.

    Parameters
    ----------
    model
        The model without its head.
    given
        What it was opened from: a name, a folder, or a model in memory.

    Raises
    ------
    Mismatch
        If the model has no head.
    BadInput, Missing, OutOfSpace
        As ``open_model`` does.
    """
    check_head(model, given)
    if not isinstance(given, str | Path):
        return NextTokenModel(model.name, given)
    causal, report = _loaded(model, given)
    if report["missing_keys"]:
        raise Mismatch(
            f"The files of {model.name} lack {sorted(report['missing_keys'])[0]}; expected a causal language model "
            "with its head. Save the model with its head."
        )
    causal.requires_grad_(False).eval()
    return NextTokenModel(model.name, causal)


def check_head(model: "LanguageModel", given: "str | Path | PreTrainedModel") -> None:
    """Report a model without a head before anything is computed; no weights are loaded.

    Parameters
    ----------
    model, given
        As for ``open_next_token_model``.

    Raises
    ------
    Mismatch
        If models of this kind have no head.
    BadInput, Missing
        As ``open_model`` does.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if isinstance(given, str | Path):
        where = locate(given)
        with reached("model", where.name, repo=where.repo), silenced():
            config = read_config(where, revision=model.revision)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise Mismatch(
                f"{model.name} is a model of the type {config.model_type}, which has no head."
            )
        return
    untyped: Any = given
    if untyped.get_output_embeddings() is None:
        raise Mismatch(
            f"{model.name} was passed as a {type(given).__name__}, which has no head; pass a causal "
            "language model, such as one of AutoModelForCausalLM."
        )


def _loaded(model: "LanguageModel", given: str | Path) -> Any:
    """Return the model of transformers with its head, and the report on its parameters."""
    from transformers import AutoModelForCausalLM

    where = locate(given)
    with reached("model", where.name, repo=where.repo), silenced():
        if where.repo is None:
            check_model_weights(Path(where.path))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where.path,
            dtype=getattr(torch, model.dtype),
            revision=model.revision,
            output_loading_info=True,
            **SAFELY,
            use_safetensors=True,
        )
        loaded[0].to(model.device)
    return loaded
