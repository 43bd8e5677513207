"""Arms of steering: what is added at the site, at one norm for each strength.

At strength s, every arm that adds a vector adds one of the norm s · m · ‖d‖, where d is the decoder
vector of the first feature and m its maximum activation. So arms differ by direction only. A
decoder vector is added without the decoder bias, and the reconstruction error stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from analysis.steering.subject import Subject
from analysis.steering.tasks import SteeringTask
from atlas.errors import BadInput
from ingest.model.edits import AddVector, SiteEdit, Tokens
from ingest.text.context_text import prompt_ids

if TYPE_CHECKING:
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["Arm", "Reconstruction", "arms_of", "contrast", "find_features"]

At = Literal["all", "last"]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Replace the activations at a site by their reconstruction: what the SAE alone changes.

    Parameters
    ----------
    sae
        The SAE.
    at
        ``"all"`` or ``"last"``.
    """

    sae: "Autoencoder"
    at: At = "all"

    @property
    def hook(self) -> str:
        """The site that the SAE reads."""
        return self.sae.info.hook

    @property
    def needs(self) -> tuple[str, ...]:
        """Other sites that the SAE reads."""
        return tuple(hook for hook in self.sae.info.hooks if hook != self.hook)

    def apply(self, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Return the reconstruction; see ``ingest.model.edits.SiteEdit``."""
        at = tokens.read & tokens.last if self.at == "last" else tokens.read
        if not at.any():
            return x
        read = self.sae.reads({**tokens.others, self.hook: x}, at, tokens.ids)
        again = self.sae.codes_and_reconstruction(read)[3]
        new = x.clone()
        new[at] = (x[at].float() + (again - read.to(again.device)).to(x.device)).to(x.dtype)
        return new


@dataclass(frozen=True, eq=False)
class Arm:
    """One way to steer.

    Parameters
    ----------
    name
        ``"nothing"``, ``"reconstruction"``, ``"feature"``, ``"set"``, ``"difference of means"``,
        ``"random feature"`` or ``"random set"``.
    hook
        The site.
    vector
        (width,). What is added at strength 1; None for the first two arms.
    features
        Features of the arm.
    sae
        For the reconstruction, the SAE.
    """

    name: str
    hook: str
    vector: torch.Tensor | None = None
    features: tuple[int, ...] = ()
    sae: "Autoencoder | None" = None

    def edits(self, strength: float, at: At) -> list[SiteEdit]:
        """Return the edits of this arm at a strength."""
        if self.sae is not None:
            return [Reconstruction(self.sae, at)]
        if self.vector is None:
            return []
        return [AddVector(self.hook, strength * self.vector, at)]


@dataclass(frozen=True, eq=False)
class Contrast:
    """Differences between the means of contrasting prompts, at their last tokens.

    Parameters
    ----------
    vector
        (width,). Of the activations at the site.
    codes
        (features,). Of the activations of the features.
    """

    vector: torch.Tensor
    codes: torch.Tensor


def contrast(subject: Subject, task: SteeringTask) -> Contrast:
    """Return the differences between the positive and the negative prompts of a task.

    No prompt that is scored is read.
    """
    (x_pos, z_pos), (x_neg, z_neg) = (
        _at_last(subject, prompts) for prompts in (task.positive, task.negative)
    )
    return Contrast(x_pos.mean(0) - x_neg.mean(0), z_pos.mean(0) - z_neg.mean(0))


def find_features(subject: Subject, found: Contrast, number: int) -> list[int]:
    """Return the features whose mean activation differs most, in units of their maximum.

    Raises
    ------
    BadInput
        If no feature is more active on the positive prompts.
    """
    maximum = torch.from_numpy(subject.maximum).to(found.codes.device)
    relative = torch.where(maximum > 0, found.codes.double() / maximum.clamp(min=1e-30), 0.0)
    values, order = relative.sort(descending=True, stable=True)
    chosen: list[int] = order[:number][values[:number] > 0].tolist()
    if not chosen:
        raise BadInput(
            f"No feature of {subject.name} is more active on the positive prompts than on the negative ones. Name "
            "features with `features`."
        )
    return chosen


def arms_of(
    subject: Subject,
    found: Contrast,
    features: Sequence[int],
    *,
    random: Sequence[int] = (),
    random_sets: Sequence[Sequence[int]] = (),
) -> list[Arm]:
    """Return all arms of a task, in the order of tables.

    Parameters
    ----------
    subject
        The SAE.
    found
        Its contrast on the task.
    features
        The steered features; the first is an arm alone, all together are another if there are more.
    random
        Random features; each is an arm.
    random_sets
        Random sets of as many features as are steered; each is an arm if there are more than one.

    Raises
    ------
    BadInput
        If the contrasting prompts have equal means.
    """
    hook = subject.hook
    (row,) = subject.rows(features[:1])
    norm = float(subject.maximum[features[0]] * row.norm())
    if not float(found.vector.norm()) > 0:
        raise BadInput(
            "The positive and the negative prompts have equal mean activations, so there is no difference of means. "
            "Use prompts that differ in their last tokens."
        )

    def scaled(vector: torch.Tensor) -> torch.Tensor:
        length = float(vector.float().norm())
        return vector.float() * (norm / max(length, 1e-30))

    def steered(name: str, members: Sequence[int]) -> Arm:
        rows = subject.rows(members)
        maximum = torch.from_numpy(subject.maximum[list(members)]).to(rows.device, rows.dtype)
        return Arm(name, hook, scaled((maximum[:, None] * rows).sum(0)), tuple(members))

    arms = [
        Arm("nothing", hook),
        Arm("reconstruction", hook, sae=subject.sae),
        steered("feature", features[:1]),
    ]
    several = len(features) > 1
    if several:
        arms.append(steered("set", features))
    arms.append(Arm("difference of means", hook, scaled(found.vector)))
    arms += [steered("random feature", [one]) for one in random]
    if several:
        arms += [steered("random set", group) for group in random_sets]
    return arms


def _at_last(subject: Subject, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the activations and the codes at the last tokens of prompts, one row each."""
    tokenizer, sae = subject.model.tokenizer, subject.sae
    bos = subject.text.contexts.prepend_bos
    vectors, codes = [], []
    for ids in sorted((prompt_ids(tokenizer, p, bos=bos) for p in prompts), key=len):
        one = torch.tensor([ids])
        read = subject.model.run(one, torch.ones_like(one), hooks=sae.info.hooks)
        last = torch.zeros(1, len(ids), dtype=torch.bool)
        last[0, -1] = True
        vectors.append(read[subject.hook][0, -1].float())
        codes.append(sae.encode(sae.reads(read, last, one))[0])
    return torch.stack(vectors), torch.stack(codes)
