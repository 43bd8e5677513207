"""Edits of SAE features: ablate, scale, clamp, add, patch, each also along a random direction.

An edit is a delta at the site that the SAE reads: ``x + decode(changed) - decode(original)``. The
reconstruction error stays in the activations, and tokens without a change are equal in every bit.

>>> from ingest.model.feature_edits import FeatureEdits, ablate, clamp    # doctest: +SKIP
>>> edits = [FeatureEdits(sae, [ablate(3), clamp(7, 2, maximum=4.1)])]    # doctest: +SKIP
>>> model.logits(ids, mask, edits=edits)                                  # doctest: +SKIP
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from atlas.errors import BadInput
from ingest.model.edits import Tokens, Where

if TYPE_CHECKING:
    from ingest.sae.autoencoder import Autoencoder

__all__ = [
    "FeatureEdit",
    "FeatureEdits",
    "ablate",
    "add",
    "clamp",
    "patch",
    "randomised",
    "scale",
]

#: The largest value of float32.
_LARGEST = 3.4028234663852886e38


@dataclass(frozen=True)
class FeatureEdit:
    """A change of the activation of one feature; see ``ablate`` and the other functions.

    Parameters
    ----------
    feature
        Index of the feature.
    action
        ``"set"`` to a value, ``"scale"`` by it, ``"add"`` it, or ``"patch"`` with ``values``.
    value
        The value; activations are in the units of the SAE.
    at
        Positions of the edit.
    values
        For ``"patch"``, the activation at each position of the row.
    random
        Seed of a random direction that replaces the feature's decoder vector; None for the
        decoder vector. See ``randomised``.
    """

    feature: int
    action: Literal["set", "scale", "add", "patch"]
    value: float = 0.0
    at: Where = "active"
    values: tuple[float, ...] = ()
    random: int | None = None

    def __post_init__(self) -> None:
        for value in (self.value, *self.values):
            if not _finite(value):
                raise BadInput(
                    f"The edit of feature {self.feature} has the value {value}; expected a finite number of "
                    "float32."
                )

    @property
    def removes(self) -> bool:
        """Whether it changes nothing where the feature is inactive."""
        return self.at == "active" or self.action == "scale"


def ablate(feature: int, *, to: float = 0.0, at: Where = "active") -> FeatureEdit:
    """Set a feature to 0, or to another value such as its mean, where it is active."""
    return FeatureEdit(feature, "set", to, at)


def scale(feature: int, factor: float, *, at: Where = "active") -> FeatureEdit:
    """Multiply the activation of a feature by a factor."""
    return FeatureEdit(feature, "scale", factor, at)


def clamp(feature: int, times: float, *, maximum: float = 1.0, at: Where = "all") -> FeatureEdit:
    """Set a feature to a multiple of its maximum activation.

    Parameters
    ----------
    feature
        Index of the feature.
    times
        The multiple.
    maximum
        Its maximum activation, such as ``max_activation`` of an atlas; 1 if ``times`` is the
        activation itself.
    at
        Positions.
    """
    return FeatureEdit(feature, "set", times * maximum, at)


def add(feature: int, times: float, *, maximum: float = 1.0, at: Where = "all") -> FeatureEdit:
    """Add a multiple of a feature's maximum activation along its decoder vector.

    Parameters
    ----------
    feature, times, maximum, at
        As for ``clamp``. The sum may be below 0.
    """
    return FeatureEdit(feature, "add", times * maximum, at)


def patch(feature: int, values: Sequence[float], *, at: Where = "all") -> FeatureEdit:
    """Set a feature to its activations in another prompt.

    Parameters
    ----------
    feature
        Index of the feature.
    values
        With ``at="last"`` one value, for the last token. Otherwise one for each position, from
        the first position of the row; positions without a value are not edited.
    at
        Positions.

    Raises
    ------
    BadInput
        If there is no value, or more than one with ``at="last"``.
    """
    if not len(values) or (at == "last" and len(values) > 1):
        raise BadInput(
            f"A patch of feature {feature} was passed {len(values)} values; expected "
            f"{'one, for the last token' if at == 'last' else 'one for each position'}."
        )
    return FeatureEdit(feature, "patch", 0.0, at, tuple(map(float, values)))


def randomised(edit: FeatureEdit, seed: int) -> FeatureEdit:
    """Return the same edit along a random direction.

    Each feature has its own direction. The sum of all edits of one ``FeatureEdits`` with the same
    seed is rescaled: at each token it has the norm of the sum along the decoder vectors.
    """
    return replace(edit, random=seed)


class FeatureEdits:
    """Edits of features of one SAE, applied together as one change at its site.

    Parameters
    ----------
    sae
        The SAE.
    edits
        The edits. Edits of one feature apply in order.

    Raises
    ------
    BadInput
        If the SAE has no such feature, or there is no edit.
    """

    def __init__(self, sae: "Autoencoder", edits: Sequence[FeatureEdit]) -> None:
        if not edits:
            raise BadInput(f"No edit of {sae.info.name} was passed; expected one or more.")
        for edit in edits:
            if not 0 <= edit.feature < sae.info.d_sae:
                raise BadInput(
                    f"{sae.info.name} has features 0 to {sae.info.d_sae - 1}, and {edit.feature} was passed."
                )
        self.sae, self.edits = sae, tuple(edits)
        self.changed = [0] * len(self.edits)
        """For each edit, the number of tokens that it has changed so far."""
        self.tokens = 0
        """Number of tokens that were read so far."""
        self._features = torch.tensor(list(dict.fromkeys(edit.feature for edit in edits)))
        self._column = {int(f): i for i, f in enumerate(self._features)}

    @property
    def hook(self) -> str:
        """The site that the SAE reads."""
        return self.sae.info.hook

    @property
    def needs(self) -> tuple[str, ...]:
        """Other sites that the SAE reads, if it reads a difference of sites."""
        return tuple(hook for hook in self.sae.info.hooks if hook != self.hook)

    def apply(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Return the edited activations; see ``ingest.model.edits.SiteEdit``.

        Raises
        ------
        BadInput
            If the result is not finite.
        """
        if not tokens.read.any():
            return x
        z = self.sae.encode(
            self.sae.reads({**tokens.others, self.hook: x}, tokens.read, tokens.ids)
        )
        delta, rows = self._delta(z, tokens)
        if not len(rows):
            return x
        new = x.clone()
        at = tuple(index[rows.to(x.device)] for index in tokens.read.nonzero(as_tuple=True))
        new[at] = (x[at].float() + delta.to(x.device)).to(x.dtype)
        if not torch.isfinite(new[at]).all():
            raise BadInput(
                f"An edit of {self.sae.info.name} produces NaN or Inf at {self.hook} in {x.dtype}. Use a "
                "smaller strength."
            )
        return new

    def check_changed(self, *, since: Sequence[int] = ()) -> None:
        """Check that each edit has changed a token.

        Parameters
        ----------
        since
            Earlier values of ``changed``, from which on changes count.

        Raises
        ------
        BadInput
            If an edit has changed nothing, such as the ablation of an inactive feature.
        """
        earlier = since or [0] * len(self.changed)
        for edit, number, start in zip(self.edits, self.changed, earlier, strict=True):
            if number > start:
                continue
            name = f"{self.sae.info.name}/{edit.feature}"
            why = (
                f"{name} is active at none of the {self.tokens} tokens"
                if edit.removes
                else f"its value equals the activation of {name} at all {self.tokens} tokens"
            )
            raise BadInput(
                f"The edit of {name} changes nothing: {why}. Choose a text on which the feature is active; "
                "`atlas show` lists examples."
            )

    def _delta(self, z: torch.Tensor, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the change of the reconstruction at the changed tokens, and their row numbers."""
        self.tokens += len(z)
        last = tokens.last[tokens.read].to(z.device)
        position = (tokens.read.nonzero()[:, 1] + tokens.start).to(z.device)
        before = z[:, self._features.to(z.device)]
        now = before.clone()
        by_direction: dict[int | None, torch.Tensor] = {}
        for number, edit in enumerate(self.edits):
            column = self._column[edit.feature]
            old = now[:, column]
            where = _where(edit, before[:, column], last)
            new = torch.where(where, _new_values(edit, old, position), old)
            change = by_direction.setdefault(edit.random, torch.zeros_like(before))
            change[:, column] += new - old
            self.changed[number] += int((new != old).sum())
            now[:, column] = new
        rows = (now != before).any(1)
        for change in by_direction.values():
            rows |= change.any(1)
        rows = rows.nonzero()[:, 0]
        total = torch.zeros(len(rows), self.sae.info.d_in, device=z.device)
        for seed, change in by_direction.items():
            total += self.sae.change(
                change, self._features, rows=rows, directions=self._random(seed, z.device)
            )
        return total, rows

    def _random(self, seed: int | None, device: torch.device) -> torch.Tensor | None:
        """Return a unit random direction for each feature, (features, d_in)."""
        if seed is None:
            return None
        shape = (len(self._features), self.sae.info.d_in)
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        unit: torch.Tensor = drawn / drawn.norm(dim=1, keepdim=True)
        return unit.to(device)


def _where(edit: FeatureEdit, before: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    if edit.at == "active":
        return before > 0
    return last if edit.at == "last" else torch.ones_like(last)


def _new_values(edit: FeatureEdit, old: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Return the new activation of a feature at each token."""
    if edit.action == "set":
        return torch.full_like(old, edit.value)
    if edit.action == "scale":
        return old * edit.value
    if edit.action == "add":
        return old + edit.value
    values = torch.tensor(edit.values, device=old.device)
    if edit.at == "last":
        return values.expand_as(old)
    known = position < len(values)
    return torch.where(known, values[position.clamp(max=len(values) - 1)], old)


def _finite(value: float) -> bool:
    """Return whether a value is a finite float32."""
    return abs(value) <= _LARGEST
