"""Edit features of a model in Python: short code on objects in memory.

>>> import analysis                                                # doctest: +SKIP
>>> with analysis.intervene("tiny-a", {"tiny-a-l1-s0/7": 0}) as edited:   # doctest: +SKIP
...     edited.generate("Once upon a time")
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atlas.errors import BadInput
from ingest.model.edits import SiteEdit
from ingest.model.feature_edits import FeatureEdit, FeatureEdits, ablate, clamp
from ingest.model.language_model import LanguageModel, open_model
from ingest.model.next_token import NextTokenModel, open_next_token_model
from ingest.sae.autoencoder import Autoencoder, check_fit, open_sae
from ingest.text.context_text import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["EditedModel", "intervene"]


class EditedModel:
    """A model whose features are edited; see ``intervene``.

    Parameters
    ----------
    model
        The complete model.
    tokenizer
        Its tokenizer.
    bos
        Whether prompts begin with BOS, as the contexts of the SAEs do.
    edits
        The edits of each SAE.
    """

    def __init__(
        self, model: NextTokenModel, tokenizer: Any, *, bos: bool, edits: Sequence[SiteEdit]
    ) -> None:
        self.model, self.tokenizer, self.edits = model, tokenizer, tuple(edits)
        self._bos = bos

    def generate(
        self, prompt: str, *, new_tokens: int = 30, temperature: float = 0.0, seed: int = 0
    ) -> str:
        """Return the text that continues a prompt.

        Parameters
        ----------
        prompt
            The prompt.
        new_tokens
            Most tokens of the continuation.
        temperature
            0 takes the most likely token.
        seed
            Seed of sampled tokens.

        Raises
        ------
        BadInput
            If the prompt is empty, or too long for the model.
        """
        ids = self._ids(prompt)
        out = self.model.generate(ids, new_tokens=new_tokens, temperature=temperature, seed=seed)
        text: str = self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        return text

    def logits(self, prompt: str) -> torch.Tensor:
        """Return the logits of the next token at each token of a prompt, (tokens, vocabulary)."""
        ids = self._ids(prompt)
        return self.model.logits(ids, torch.ones_like(ids))[0]

    def next_tokens(self, prompt: str, *, most: int = 10) -> list[tuple[str, float]]:
        """Return the most likely next tokens of a prompt, and their probabilities."""
        top = self.logits(prompt)[-1].softmax(-1).topk(most)
        return [
            (self.tokenizer.decode([int(i)]), float(p))
            for p, i in zip(top.values, top.indices, strict=True)
        ]

    def _ids(self, prompt: str) -> torch.Tensor:
        return torch.tensor([prompt_ids(self.tokenizer, prompt, bos=self._bos)])


@contextmanager
def intervene(
    model: "str | Path | PreTrainedModel | LanguageModel",
    edits: Mapping[str, float | FeatureEdit],
    *,
    saes: Sequence[Any] = (),
    tokenizer: Any = None,
    device: str = "auto",
) -> Iterator[EditedModel]:
    """Edit features of a model within a block.

    Each call of the model in the block is edited, also ``model.generate`` of transformers. The
    reconstruction error of an SAE stays in the activations.

    Parameters
    ----------
    model
        A model by name or folder, or in memory.
    edits
        By feature, such as ``"A/561"``: 0 ablates the feature where it is active, another number
        sets its activation at all tokens, and an edit of ``ingest.model.feature_edits`` does
        anything else.
    saes
        SAEs in memory, opened or of sae-lens; others are opened by name.
    tokenizer
        Tokenizer of a model in memory.
    device
        Device of a model that is opened here.

    Yields
    ------
    EditedModel
        The edited model: ``generate``, ``logits`` and ``next_tokens`` of a prompt.

    Raises
    ------
    BadInput
        If a feature does not exist or is not ``sae/index``; at the end of the block, if a feature
        was never active, so that its ablation changed nothing.
    Mismatch
        If an SAE does not read this model.

    Examples
    --------
    >>> with intervene("tiny-a", {"tiny-a-l1-s0/399": 0}) as edited:
    ...     text = edited.generate("One day, Lily")
    >>> isinstance(text, str)
    True
    """
    by_sae = _by_sae(edits)
    opened = _opened(by_sae, saes)
    hooks = list(dict.fromkeys(hook for sae in opened for hook in sae.info.hooks))
    language = (
        model
        if isinstance(model, LanguageModel)
        else open_model(model, tokenizer=tokenizer, hooks=hooks, device=device)
    )
    for sae in opened:
        check_fit(sae.info, language)
        sae.require_one_site("An edit of features at the site they read")
        sae.to(language.device)
    head = open_next_token_model(language, _complete(model, language))
    site_edits = [FeatureEdits(sae, by_sae[sae.info.name]) for sae in opened]
    bos = opened[0].info.prepend_bos
    with head.edited(site_edits):
        yield EditedModel(head, language.tokenizer, bos=bos, edits=site_edits)


def _by_sae(edits: Mapping[str, float | FeatureEdit]) -> dict[str, list[FeatureEdit]]:
    """Return the edits of each SAE."""
    found: dict[str, list[FeatureEdit]] = {}
    for key, value in edits.items():
        name, slash, index = str(key).rpartition("/")
        if not slash or not name or not index.isdecimal():
            raise BadInput(
                f"{key!r} is no feature; expected the name of an SAE and an index, such as 'A/561'."
            )
        feature = int(index)
        if isinstance(value, FeatureEdit):
            if value.feature != feature:
                raise BadInput(
                    f"{key!r} was passed an edit of feature {value.feature}; pass one of {feature}."
                )
            edit = value
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInput(
                f"{key!r} was passed {value!r}; expected a number, or an edit such as ablate({feature})."
            )
        else:
            edit = ablate(feature) if value == 0 else clamp(feature, float(value))
        found.setdefault(name, []).append(edit)
    if not found:
        raise BadInput("No feature was passed; pass one or more, such as {'A/561': 0}.")
    return found


def _opened(by_sae: Mapping[str, Any], saes: Sequence[Any]) -> list[Autoencoder]:
    ready = [sae if isinstance(sae, Autoencoder) else open_sae(sae) for sae in saes]
    known = {sae.info.name: sae for sae in ready}
    return [known[name] if name in known else open_sae(name, name=name) for name in by_sae]


def _complete(model: Any, language: LanguageModel) -> Any:
    """Return what the complete model is opened from."""
    if not isinstance(model, LanguageModel):
        return model
    if language.source == "memory":
        raise BadInput(
            f"{language.name} was opened from a model in memory; pass that model, with tokenizer=."
        )
    return language.source
