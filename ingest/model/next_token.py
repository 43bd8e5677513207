"""A complete language model with its head: logits and generation, also with edited activations."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atlas.errors import BadInput, Mismatch
from ingest.error_translation import memory_errors, reached
from ingest.folder_checks import check_model_weights
from ingest.model.edits import Edit, SiteEdit, editing, recording
from ingest.model.feature_edits import FeatureEdits
from ingest.model.loading import SAFELY, locate, read_config, silenced
from ingest.precision import ieee_float32
from ingest.text.tokenization import special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ingest.model.language_model import LanguageModel

__all__ = ["Edit", "Edits", "NextTokenModel", "check_head", "open_next_token_model"]

Edits = Mapping[str, Edit] | Iterable[SiteEdit] | None
"""Edits of a forward pass: ``SiteEdit`` objects, or by hook name functions of all activations."""


@dataclass(frozen=True, eq=False)
class NextTokenModel:
    """A causal language model with all its blocks and its head.

    Parameters
    ----------
    name
        Its name.
    causal
        The transformers model.
    special
        Ids of special tokens, which SAEs do not read and edits leave unchanged.
    """

    name: str
    causal: "PreTrainedModel"
    special: tuple[int, ...] = ()

    def logits(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        edits: Edits = None,
    ) -> torch.Tensor:
        """Return the logits of the next token at each position.

        Parameters
        ----------
        input_ids, attention_mask
            As for ``LanguageModel.run``.
        edits
            Edits of sites, such as ``FeatureEdits``; or by TransformerLens name of a site, a
            function that replaces its activations. Everything after the site is computed from
            the new activations. An edit that returns its input changes no bit.

        Returns
        -------
            float32, (batch, position, vocabulary).

        Raises
        ------
        UnknownName, Mismatch
            If the model has no such site.
        BadInput
            If an edit of features changes nothing or produces NaN, or the context is too long.
        OutOfSpace
            If the batch does not fit into memory.
        """
        return self.run(input_ids, attention_mask, edits=edits)[0]

    def run(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        hooks: Iterable[str] = (),
        edits: Edits = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the logits, and the activations at sites.

        Parameters
        ----------
        input_ids, attention_mask, edits
            As for ``logits``.
        hooks
            Sites to read. An edited site is read after its edit.

        Returns
        -------
            The logits, float32, (batch, position, vocabulary); by hook, the activations,
            (batch, position, width).

        Raises
        ------
        UnknownName, Mismatch, BadInput, OutOfSpace
            As ``logits`` does.
        """
        self.check_length(input_ids.shape[1])
        device = self.causal.device
        with (
            memory_errors(f"the logits of {tuple(input_ids.shape)} tokens in {self.name}"),
            ieee_float32(),
            torch.inference_mode(),
            self.edited(edits),
            recording(self.causal, hooks, name=self.name) as read,
        ):
            out = self.causal(
                input_ids=input_ids.to(device),
                attention_mask=attention_mask.to(device),
                use_cache=False,
            )
            return out.logits.float(), read

    def generate(
        self,
        input_ids: torch.Tensor,
        *,
        new_tokens: int,
        edits: Edits = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> torch.Tensor:
        """Continue prompts of equal length, with a cache.

        Parameters
        ----------
        input_ids
            (batch, position). Prompts without padding.
        new_tokens
            Largest number of tokens after the prompt; generation ends at the end token.
        edits
            As for ``logits``. They apply to the prompt and to each new token; ``last`` is the
            last token of the prompt and each token after it.
        temperature
            0 takes the most likely token; above 0, tokens are sampled at this temperature.
        seed
            Seed of the samples.

        Returns
        -------
            (batch, position + new tokens). Token ids; rows that end early are padded.

        Raises
        ------
        UnknownName, Mismatch, BadInput, OutOfSpace
            As ``logits`` does.
        """
        if input_ids.ndim != 2 or not input_ids.shape[1]:
            raise BadInput(
                f"The prompts are of shape {tuple(input_ids.shape)}; expected (batch, position) with one "
                "token or more."
            )
        length = input_ids.shape[1]
        self.check_length(length + new_tokens)
        ids = input_ids.to(self.causal.device)
        config = self.causal.generation_config
        untyped: Any = self.causal
        pad = config.pad_token_id if config.pad_token_id is not None else 0
        sampled = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        with (
            memory_errors(
                f"{len(ids)} continuations of {length + new_tokens} tokens in {self.name}"
            ),
            ieee_float32(),
            torch.inference_mode(),
            torch.random.fork_rng(devices=[ids.device] if ids.is_cuda else []),
            self.edited(edits, first=length - 1),
        ):
            torch.manual_seed(seed)
            out: torch.Tensor = untyped.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                use_cache=True,
                pad_token_id=pad,
                **(sampled if temperature > 0 else {"do_sample": False}),
            )
        return out

    @contextmanager
    def edited(self, edits: Edits, *, first: int | None = None) -> Iterator[None]:
        """Edit every forward pass of the model within a block; afterwards check the edits.

        Parameters
        ----------
        edits
            As for ``logits``.
        first
            See ``ingest.model.edits.editing``.

        Raises
        ------
        BadInput
            If a forward pass produces NaN; at the end of the block, if an edit of features has
            changed no token.
        """
        chosen = edits if isinstance(edits, Mapping) else tuple(edits or ())
        features = [e for e in chosen if isinstance(e, FeatureEdits)]
        before = [tuple(e.changed) for e in features]
        with (
            editing(self.causal, chosen, name=self.name, special=self.special, first=first),
            _finite_logits(self.causal, self.name) if chosen else nullcontext(),
        ):
            yield
        for one, earlier in zip(features, before, strict=True):
            one.check_changed(since=earlier)

    def check_length(self, length: int) -> None:
        """Check that the model takes contexts of a number of tokens.

        Raises
        ------
        BadInput
            If the contexts are too long.
        """
        longest = getattr(self.causal.config, "max_position_embeddings", None)
        if longest is not None and length > longest:
            raise BadInput(
                f"{self.name} takes contexts of at most {longest} tokens, and {length} were passed. Use a "
                "shorter prompt, or fewer new tokens."
            )


@contextmanager
def _finite_logits(causal: "PreTrainedModel", name: str) -> Iterator[None]:
    """Check the logits of each forward pass within a block."""

    def check(_: Any, __: Any, out: Any) -> None:
        if not torch.isfinite(out.logits[:, -1]).all():
            raise BadInput(
                f"{name} returns NaN or Inf with these edits in {causal.dtype}. Use a smaller strength."
            )

    handle = causal.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()


def open_next_token_model(
    model: "LanguageModel", source: "str | Path | PreTrainedModel"
) -> NextTokenModel:
    """Open the complete model that a ``LanguageModel`` was opened from.

    Parameters
    ----------
    model
        The model without its head.
    source
        What it was opened from: a name, a folder, or a model in memory.

    Raises
    ------
    Mismatch
        If the model has no head.
    BadInput, Missing, OutOfSpace
        As ``open_model`` does.
    """
    check_head(model, source)
    if not isinstance(source, str | Path):
        return NextTokenModel(model.name, source, special_ids(model.tokenizer))
    causal, report = _loaded(model, source)
    if report["missing_keys"]:
        raise Mismatch(
            f"The files of {model.name} lack {sorted(report['missing_keys'])[0]}; expected a causal language model "
            "with its head. Save the model with its head."
        )
    causal.requires_grad_(False).eval()
    return NextTokenModel(model.name, causal, special_ids(model.tokenizer))


def check_head(model: "LanguageModel", source: "str | Path | PreTrainedModel") -> None:
    """Report a model without a head before anything is computed; no weights are loaded.

    Parameters
    ----------
    model, source
        As for ``open_next_token_model``.

    Raises
    ------
    Mismatch
        If models of this kind have no head.
    BadInput, Missing
        As ``open_model`` does.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if isinstance(source, str | Path):
        where = locate(source)
        with reached("model", where.name, repo=where.repo), silenced():
            config = read_config(where, revision=model.revision)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise Mismatch(
                f"{model.name} is a model of the type {config.model_type}, which has no head."
            )
        return
    untyped: Any = source
    if untyped.get_output_embeddings() is None:
        raise Mismatch(
            f"{model.name} was passed as a {type(source).__name__}, which has no head; pass a causal "
            "language model, such as one of AutoModelForCausalLM."
        )


def _loaded(model: "LanguageModel", source: str | Path) -> Any:
    """Return the model of transformers with its head, and the report on its parameters."""
    from transformers import AutoModelForCausalLM

    where = locate(source)
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
