"""Split the documents of a text: for the map, for training, and for the corpus of the atlas."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from analysis.residual.settings import ResidualSettings
from atlas.errors import BadInput
from atlas.progress import Progress
from ingest.text.corpus import Corpus
from ingest.text.readers import Texts
from ingest.text.tokenization import token_counts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LEAST", "ROLES", "Division", "Role", "divide"]

Role: TypeAlias = Literal["map", "training", "corpus"]

ROLES: tuple[Role, ...] = ("map", "training", "corpus")
"""Roles of documents: to fit the map and the controls, to train SAEs, to evaluate SAEs."""

LEAST: dict[Role, int] = {"map": 3, "training": 1, "corpus": 2}
"""Smallest number of documents of each role; maps and probes need held-out documents."""


@dataclass(frozen=True)
class Division:
    """Role of each document, which depends on its text only, so that copies share a role.

    Parameters
    ----------
    settings
        The shares and the seed.
    known
        Digests of the documents in the corpus of an existing atlas. These documents have no
        role, and no other document gets the role ``corpus``.
    """

    settings: ResidualSettings
    known: frozenset[bytes] | None = None

    @staticmethod
    def digest(text: str) -> bytes:
        """Return the digest of a text."""
        return hashlib.sha256(text.encode()).digest()[:16]

    def role(self, text: str) -> Role | None:
        """Return the role of a document; None if it is in the atlas already."""
        shares = self.settings.map_share, self.settings.train_share
        if self.known is None:
            if self._number(text, "corpus") >= sum(shares):
                return "corpus"
        elif self.digest(text) in self.known:
            return None
        # An independent draw, so that roles do not change once the atlas has a corpus.
        return "map" if self._number(text, "map") * sum(shares) < shares[0] else "training"

    def _number(self, text: str, purpose: str) -> float:
        """Return a pseudorandom number from 0 to 1 for a text."""
        drawn = hashlib.sha256(f"{self.settings.split_seed} {purpose} ".encode() + text.encode())
        return int.from_bytes(drawn.digest()[:8], "big") / 2**64


@dataclass(frozen=True, eq=False)
class Divided:
    """A text after the split.

    Parameters
    ----------
    corpora
        Documents by role; ``"corpus"`` only if the atlas had no corpus.
    left_out
        Number of documents that were in the atlas already.
    tokens
        Number of tokens by role.
    """

    corpora: dict[Role, Corpus]
    left_out: int = 0
    tokens: dict[Role, int] = field(default_factory=dict)


def divide(
    whole: Corpus,
    settings: ResidualSettings,
    *,
    own: Corpus | None,
    mine: bool = False,
    tokenizer: "PreTrainedTokenizerBase",
    into: Path,
    progress: Progress,
) -> Divided:
    """Split the documents of a text into a file for each role.

    Parameters
    ----------
    whole
        The text.
    settings
        The shares and the seed.
    own
        The corpus of the atlas, if it has one.
    mine
        Whether that corpus came from this split; its documents are then not reported as
        excluded.
    tokenizer
        Counts the tokens of each role.
    into
        Folder for the files.
    progress
        Receives the number of documents that were in the atlas already.

    Raises
    ------
    BadInput
        If a role has too few documents, or no token.
    """
    known = None if own is None else frozenset(map(Division.digest, _texts(own)))
    division = Division(settings, known)
    found: dict[Role | None, int] = dict.fromkeys((*ROLES, None), 0)
    for text in _texts(whole):
        found[division.role(text)] += 1
    left_out = found.pop(None) * (not mine)
    if left_out:
        progress.report(
            f"{left_out:,} of {whole.info.documents:,} documents are in the atlas already; they are excluded from "
            "fitting and training."
        )
    wanted: list[Role] = [r for r in ROLES if own is None or r != "corpus"]
    _check_enough(whole, {role: found[role] for role in wanted}, sum(found.values()))
    if own is not None and own.info.documents < LEAST["corpus"]:
        raise BadInput(
            f"The corpus of the atlas has {own.info.documents} document; expected {LEAST['corpus']} or more, because "
            "probes are fitted and validated on different documents. Create a new atlas with a longer text."
        )
    divided = Divided({}, left_out)
    for role in wanted:
        divided.corpora[role] = _gathered(whole, division, role, into / f"{role}.parquet")
        divided.tokens[role] = _count(divided.corpora[role], tokenizer)
        if not divided.tokens[role]:
            raise BadInput(
                f"The {role} documents of {whole.info.source} have no token. Pass a longer text."
            )
    return divided


def _check_enough(whole: Corpus, found: dict[Role, int], total: int) -> None:
    few = [f"{n} for {role} ({LEAST[role]} needed)" for role, n in found.items() if n < LEAST[role]]
    if few:
        raise BadInput(
            f"{whole.info.source} has {total:,} documents that are not in the atlas, and the split has too few: "
            f"{', '.join(few)}. Pass a text with more documents (`split_on` splits a file into more), or other "
            "shares."
        )


def _texts(corpus: Corpus) -> Iterator[str]:
    for number in range(len(corpus)):
        for document in corpus.block(number):
            yield document.text


def _gathered(whole: Corpus, division: Division, role: Role, into: Path) -> Corpus:
    documents = (text for text in _texts(whole) if division.role(text) == role)
    info = whole.info
    name = info.name if role == "corpus" else f"{info.name}, {role}"
    return Corpus.gather(Texts(name, info.source, info.revision, documents), into)


def _count(corpus: Corpus, tokenizer: "PreTrainedTokenizerBase") -> int:
    return sum(
        sum(token_counts([d.text for d in corpus.block(n)], tokenizer)) for n in range(len(corpus))
    )
