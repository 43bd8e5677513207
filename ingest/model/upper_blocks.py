"""Run the upper blocks of a model many times from stored activations, without the blocks below.

The lower blocks are skipped: they return the activations of an earlier run. Rows of a batch can be
the same context with different changes at a site, so that one run measures many edits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ingest.error_translation import memory_errors
from ingest.model.edits import editing, recording
from ingest.model.sites import layout_of, parse_hook
from ingest.precision import ieee_float32

if TYPE_CHECKING:
    from ingest.model.next_token import NextTokenModel

__all__ = ["UpperBlocks"]


class UpperBlocks:
    """The blocks of a model from one site on, and its head.

    Parameters
    ----------
    model
        The model.
    hook
        TransformerLens name of the site.

    Raises
    ------
    UnknownName
        If the model has no such site.
    """

    def __init__(self, model: "NextTokenModel", hook: str) -> None:
        self.model, self.hook = model, hook
        base: Any = model.causal.base_model
        self._base = getattr(base, "language_model", base)
        self._blocks: Any = self._base.get_submodule(layout_of(self._base).blocks)
        layers = len(self._blocks)
        layer, rest = parse_hook(hook, model=model.name, layers=layers)
        self.first = 0 if layer is None else layer + (rest == "hook_resid_post")
        """Number of lower blocks that are skipped."""
        self.mixes_tokens = self.first < layers
        """Whether a change at a token can change another: False above the last block."""

    def below(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, hooks: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Run the complete model without edits.

        Parameters
        ----------
        input_ids, attention_mask
            (contexts, positions).
        hooks
            Sites to read.

        Returns
        -------
            The stream that the upper blocks start from, (contexts, positions, d_model); the
            logits; and by hook the activations.
        """
        wanted = [*hooks] if self.first == 0 else [*hooks, self._stream]
        logits, read = self.model.run(input_ids, attention_mask, hooks=wanted)
        stream = read[self._stream] if self.first else torch.zeros(0)
        return stream, logits, {hook: read[hook] for hook in hooks}

    def run(
        self,
        stream: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        delta: torch.Tensor,
        hooks: Sequence[str],
        last: int = 0,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run the upper blocks with a change of the site.

        Parameters
        ----------
        stream
            From ``below``; (rows, positions, d_model).
        input_ids, attention_mask
            (rows, positions).
        delta
            (rows, positions, width of the site). It is added at the site. Gradients flow to it
            if it requires them.
        hooks
            Sites to read, at or after the site.
        last
            Number of last positions whose logits are returned; 0 for all.

        Returns
        -------
            Logits, float32, (rows, last positions, vocabulary); by hook, the activations.

        Raises
        ------
        OutOfSpace
            If the rows do not fit into memory.
        """
        device = self.model.causal.device

        def add(x: torch.Tensor) -> torch.Tensor:
            return x + delta.to(x.dtype)

        grad = torch.enable_grad() if delta.requires_grad else torch.inference_mode()
        with (
            memory_errors(f"{len(input_ids)} rows of the upper blocks of {self.model.name}"),
            ieee_float32(),
            grad,
            self._skipping(stream),
            editing(self.model.causal, {self.hook: add}, name=self.model.name),
            recording(self.model.causal, hooks, name=self.model.name) as read,
        ):
            out = self.model.causal(
                input_ids=input_ids.to(device),
                attention_mask=attention_mask.to(device),
                use_cache=False,
                logits_to_keep=last,
            )
            return out.logits.float(), dict(read)

    @property
    def _stream(self) -> str:
        return f"blocks.{self.first - 1}.hook_resid_post"

    @contextmanager
    def _skipping(self, stream: torch.Tensor) -> Iterator[None]:
        """Replace the lower blocks by functions that return the stream."""
        with ExitStack() as undo:
            for number in range(self.first):
                block = self._blocks[number]
                block.forward = _returning(stream, as_tuple=self._returns_tuple)
                undo.callback(delattr, block, "forward")
            yield

    @property
    def _returns_tuple(self) -> bool:
        """Whether blocks return a tuple; in transformers 5 those of GPT-Neo alone do."""
        return bool(self._base.config.model_type == "gpt_neo")


def _returning(stream: torch.Tensor, *, as_tuple: bool) -> Any:
    def forward(*_: Any, **__: Mapping[str, Any]) -> Any:
        return (stream, None) if as_tuple else stream

    return forward
