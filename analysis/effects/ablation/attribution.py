"""Gradient attribution of all pairs of features: the first-order effect of an ablation.

The attribution of source i and target j is the mean over the occurrences t of i of
-z_i(t) row_i · ∂(Σ_t' z_j(t')) / ∂x(t), where t' runs over t and later tokens: the first-order
change of the target as the delta of an ablation is added at t. A backward pass computes one target
for each context, from all its occurrences: the number of passes is the largest number of targets that
are active in a context, not the number of features. A forward pass computes one occurrence for each
context, on all targets. The cheaper of both is used; they give the same numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.effects.ablation.sample import SHORTER, Contexts, Occurrences
from atlas.studies.forecast import timed
from atlas.studies.steps import NOT_STORED, Steps
from ingest.error_translation import memory_errors
from ingest.precision import ieee_float32
from ingest.sae.autoencoder import PEAK

if TYPE_CHECKING:
    from atlas.progress import Stage
    from ingest.model.upper_blocks import UpperBlocks
    from ingest.sae.autoencoder import Autoencoder

__all__ = [
    "Attribution",
    "attribute",
    "attribution_bytes",
    "attribution_seconds",
    "changes_of_active",
    "encoder_rows",
]

#: Backward passes of each target SAE, or forward passes, that a forecast measures.
_PASSES = 4

#: Cost of a forward pass, in backward passes: it differentiates a backward pass.
_FORWARD = 4

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Attribution:
    """Attributions per occurrence.

    Parameters
    ----------
    effect
        By target SAE, float32, (sources, features of the SAE): mean over the occurrences.
    loss
        (sources,). The first-order change of the summed loss at the token and later ones.
    """

    effect: list[Floats32]
    loss: NDArray[np.float64]


def attribute(
    upper: "UpperBlocks",
    contexts: Contexts,
    occurrences: Occurrences,
    *,
    vectors: torch.Tensor,
    targets: "Sequence[Autoencoder]",
    sources: NDArray[np.int64],
    batch: int,
    steps: Steps = NOT_STORED,
    stage: "Stage | None" = None,
) -> Attribution:
    """Attribute the effects of all sources on all features of later SAEs.

    Parameters
    ----------
    upper
        The model from the site of the source on.
    contexts
        The contexts.
    occurrences
        Tokens at which sources are active.
    vectors
        (d_sae of the source, d_in). The change of the site per unit of each feature.
    targets
        SAEs at later sites.
    sources
        (sources,), ascending. Features of the occurrences.
    batch
        Contexts of a batch.
    steps
        The finished steps; one for each batch.
    stage
        Advanced by the number of contexts.
    """
    effect = [np.zeros((len(sources), sae.info.d_sae), np.float32) for sae in targets]
    loss = np.zeros(len(sources))
    shapes = {"loss": loss.shape} | {f"effect-{i}": one.shape for i, one in enumerate(effect)}
    row_of = np.searchsorted(sources, occurrences.feature)
    for start in range(0, len(contexts), batch):
        inside = (occurrences.context >= start) & (occurrences.context < start + batch)
        own = contexts.take(slice(start, start + batch))

        def compute(
            start: int = start, inside: NDArray[np.bool_] = inside, own: Contexts = own
        ) -> dict[str, NDArray[Any]]:
            some = occurrences.take(inside)
            with memory_errors(f"the attributions of {len(own)} contexts", todo=SHORTER):
                graph = _Graph(upper, own, some, start=start, vectors=vectors, targets=targets)
                return _sums(graph, row_of[inside], sources=len(sources), targets=targets)

        if inside.any():
            found = steps.get(f"attribution-{start}", compute, shapes=shapes)
            loss += found["loss"]
            for number, part in enumerate(effect):
                part += found[f"effect-{number}"]
        if stage is not None:
            stage.advance(len(own))
    number_of = np.bincount(row_of, minlength=len(sources)).clip(min=1)
    for part in effect:
        part /= number_of[:, None]
    return Attribution(effect, loss / number_of)


def attribution_seconds(
    upper: "UpperBlocks",
    contexts: Contexts,
    occurrences: Occurrences,
    *,
    vectors: torch.Tensor,
    targets: "Sequence[Autoencoder]",
    batch: int,
) -> float:
    """Return a forecast of the seconds of ``attribute``, from a few passes of its first batch.

    Parameters
    ----------
    upper, contexts, occurrences, vectors, targets, batch
        As for ``attribute``.
    """
    some = occurrences.take(occurrences.context < batch)
    first = contexts.take(slice(0, batch))
    graph = _Graph(upper, first, some, start=0, vectors=vectors, targets=targets)
    if graph.forward_is_cheaper(targets):
        seconds = _seconds_of(graph.forward_passes(targets), graph.occurrence_passes)
    else:
        seconds = sum(_seconds_of(graph.passes(sae), graph.number(sae)) for sae in targets)
    return seconds * -(-len(contexts) // batch)


def attribution_bytes(contexts: Contexts, targets: "Sequence[Autoencoder]", *, batch: int) -> int:
    """Return a forecast of the memory of ``attribute``, without its result.

    It has the dense codes of a batch on the widest target, where each target is active, and the
    gradients of its features.
    """
    tokens = min(batch, len(contexts)) * contexts.ids.shape[1]
    widths = [sae.info.d_sae for sae in targets]
    dense = 4 * (PEAK + 1) * tokens * max(widths, default=0)
    return dense + sum(
        width * (tokens + 4 * sae.info.d_in) for width, sae in zip(widths, targets, strict=True)
    )


def _seconds_of(passes: "Iterator[Any]", number: int) -> float:
    """Return the seconds of a number of passes, measured on a few of them."""
    next(passes, None)  # the first prepares the others
    found: list[Any] = []
    used = timed(lambda: found.extend(islice(passes, _PASSES)))
    return used / max(len(found), 1) * number


def _sums(
    graph: "_Graph", row: NDArray[np.int64], *, sources: int, targets: "Sequence[Autoencoder]"
) -> dict[str, NDArray[Any]]:
    """Return sums over the occurrences of a batch: ``loss`` by source, and ``effect-i`` by target SAE."""
    loss = np.zeros(sources)
    np.add.at(loss, row, graph.loss())
    found: dict[str, NDArray[Any]] = {"loss": loss}
    effects = [np.zeros((sources, sae.info.d_sae), np.float32) for sae in targets]
    if graph.forward_is_cheaper(targets):
        for some, values in graph.forward_passes(targets):
            for effect, value in zip(effects, values, strict=True):
                np.add.at(effect, row[some], value)
    else:
        for effect, sae in zip(effects, targets, strict=True):
            for target, one in graph.passes(sae):
                np.add.at(effect, (row, target), one)
    found |= {f"effect-{number}": effect for number, effect in enumerate(effects)}
    return found


class _Graph:
    """The computation of a batch of contexts, through which gradients flow to the site."""

    def __init__(
        self,
        upper: "UpperBlocks",
        contexts: Contexts,
        some: Occurrences,
        *,
        start: int,
        vectors: torch.Tensor,
        targets: "Sequence[Autoencoder]",
    ) -> None:
        self._contexts = contexts
        hooks = list(dict.fromkeys(sae.info.hook for sae in targets))
        stream, _, read = upper.below(contexts.ids, contexts.mask, hooks=[*hooks, upper.hook])
        device = read[upper.hook].device
        self._delta = torch.zeros(
            read[upper.hook].shape, device=device, dtype=torch.float32, requires_grad=True
        )
        # Tensors of inference mode cannot take part in a graph. Forward passes differentiate twice, which
        # fused attention does not support.
        with sdpa_kernel(SDPBackend.MATH):
            self._logits, self._read = upper.run(
                stream.clone() if len(stream) else stream,
                contexts.ids,
                contexts.mask,
                delta=self._delta,
                hooks=hooks,
            )
        self._hooks = hooks
        self._at = (some.context - start, some.position)
        change = -torch.from_numpy(some.activation).to(device)[:, None]
        self._change = change * vectors.to(device)[torch.from_numpy(some.feature).to(device)]

    def loss(self) -> NDArray[np.float64]:
        """Return the attribution of each occurrence to the loss of its context."""
        ids, read = (
            part.to(self._logits.device) for part in (self._contexts.ids, self._contexts.read)
        )
        at = read[:, 1:]
        chosen = self._logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        if not at.any():
            return np.zeros(len(self._change))
        (gradient,) = torch.autograd.grad(-chosen[at].sum(), self._delta, retain_graph=True)
        return self._along(gradient).astype(np.float64)

    @property
    def occurrence_passes(self) -> int:
        """Number of forward passes: the most occurrences in a context."""
        return int(np.bincount(self._at[0]).max(initial=0))

    def forward_is_cheaper(self, targets: "Sequence[Autoencoder]") -> bool:
        """Return whether forward passes cost less than backward passes."""
        return _FORWARD * self.occurrence_passes < sum(self.number(sae) for sae in targets)

    def forward_passes(
        self, targets: "Sequence[Autoencoder]"
    ) -> "Iterator[tuple[NDArray[np.int64], list[Floats32]]]":
        """Yield for each pass some occurrences, and by target SAE their attributions to all its features.

        The product of the Jacobian with a change of the site is the derivative of a backward pass,
        which is linear in its cotangents, by these cotangents.
        """
        prepared = [self._gates(sae) for sae in targets]
        sites = [self._read[hook] for hook in self._hooks]
        cotangents = [torch.zeros_like(x, requires_grad=True) for x in sites]
        (gradient,) = torch.autograd.grad(sites, self._delta, cotangents, create_graph=True)
        order = np.argsort(self._at[0], kind="stable")
        context = self._at[0][order]
        turn = np.arange(len(order)) - np.searchsorted(context, context)
        for number in range(self.occurrence_passes):
            some = order[turn == number]
            rows, positions = self._at[0][some], self._at[1][some]
            change = torch.zeros_like(self._delta)
            change[rows, positions] = self._change[torch.from_numpy(some)].to(change.dtype)
            moved = torch.autograd.grad(gradient, cotangents, change, retain_graph=True)
            at = dict(zip(self._hooks, moved, strict=True))
            values = [
                changes_of_active(at[sae.info.hook][rows].float(), gate[rows], encoders)
                for sae, (gate, encoders) in zip(targets, prepared, strict=True)
            ]
            yield some, values

    def _gates(self, sae: "Autoencoder") -> tuple[torch.Tensor, torch.Tensor]:
        """Return where each target is active, and its gradient by the site that it reads."""
        x, codes = self._read[sae.info.hook].detach(), self._codes(sae)
        keep = self._contexts.read.to(x.device)
        return codes > 0, encoder_rows(sae, x[keep].float(), codes[keep])

    def number(self, sae: "Autoencoder") -> int:
        """Return the number of passes: the most targets that are active in a context."""
        return int((self._codes(sae) > 0).any(1).sum(1).max())

    def _codes(self, sae: "Autoencoder") -> torch.Tensor:
        x = self._read[sae.info.hook]
        keep = self._contexts.read.to(x.device)
        codes = torch.zeros((*x.shape[:2], sae.info.d_sae), device=x.device)
        codes[keep] = sae.encode(x.detach()[keep].float()).to(x.device)
        return codes

    def passes(self, sae: "Autoencoder") -> "Iterator[tuple[NDArray[np.int64], Floats32]]":
        """Yield for each pass the target of each occurrence, and its attribution."""
        x = self._read[sae.info.hook]
        gate, rows = self._gates(sae)
        lists = [row.nonzero()[:, 0] for row in gate.any(1)]
        turns = torch.nn.utils.rnn.pad_sequence(lists, padding_value=-1)
        for target in turns:
            index = target.clamp(min=0)
            weight = gate[torch.arange(len(index)), :, index] & (target >= 0)[:, None]
            cotangent = (weight[..., None] * rows[index][:, None]).to(x.dtype)
            (gradient,) = torch.autograd.grad(x, self._delta, cotangent, retain_graph=True)
            # An occurrence without a target in this pass adds 0 to target 0.
            yield index.cpu().numpy()[self._at[0]], self._along(gradient)

    def _along(self, gradient: torch.Tensor) -> Floats32:
        """Return the product of the gradient with the change of each occurrence."""
        value = (gradient[self._at[0], self._at[1]] * self._change).sum(1)
        found: Floats32 = value.detach().cpu().numpy()
        return found


def changes_of_active(moved: torch.Tensor, gate: torch.Tensor, encoders: torch.Tensor) -> Floats32:
    """Return the first-order change of each feature, summed over the tokens where it is active.

    Each context is multiplied by its active features alone, so the products stay small for wide SAEs.

    Parameters
    ----------
    moved
        (contexts, positions, d_in). Change of the site that the SAE reads.
    gate
        (contexts, positions, d_sae), bool. Where each feature is active.
    encoders
        (d_sae, d_in). Gradient of each feature by the site.

    Returns
    -------
        (contexts, d_sae); 0 for features that are active nowhere in the context.
    """
    found = torch.zeros(gate.shape[0], gate.shape[2], device=moved.device)
    for row, own, change in zip(found, gate, moved, strict=True):
        active = own.any(0).nonzero()[:, 0]
        row[active] = ((change @ encoders[active].T) * own[:, active]).sum(0)
    changes: Floats32 = found.cpu().numpy()
    return changes


def encoder_rows(sae: "Autoencoder", x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Return the gradient of each feature at a token where it is active.

    Parameters
    ----------
    sae
        An SAE whose active features are affine functions of its input.
    x
        (tokens, d_in).
    codes
        (tokens, d_sae).

    Returns
    -------
        (d_sae, d_in); 0 for features that are active at no token.
    """
    rows = torch.zeros(sae.info.d_sae, x.shape[1], device=x.device)
    strongest = codes.argmax(0)
    live = (codes > 0).any(0).nonzero()[:, 0]
    for start in range(0, len(live), 512):
        some = live[start : start + 512]
        inputs = x[strongest[some]].clone().requires_grad_()
        with ieee_float32(), torch.enable_grad():
            encoded = sae.encode_with_gradient(inputs)
            total = encoded[torch.arange(len(some)), some].sum()
            (gradient,) = torch.autograd.grad(total, inputs)
        rows[some] = gradient.to(rows.device)
    return rows
