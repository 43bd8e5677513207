"""Texts, codes and vectors in the form that probes read, without a model."""

import numpy as np

from ingest.codes.store import Block, Tokens, write_shard
from ingest.probe.probe_data import ProbeData
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.design import Design

CONTEXT = 16


def random_text(rng, *, documents=120, length=40, vocabulary=24, zipf=0.5):
    """Return token ids of some documents, drawn independently."""
    rate = 1 / np.arange(1, vocabulary + 1) ** zipf
    return [rng.choice(vocabulary, length, p=rate / rate.sum()) for _ in range(documents)]


def positions(length):
    """Return the position of each token of a document in its context, BOS at 0."""
    return np.arange(length) % (CONTEXT - 1) + 1


def write_codes(folder, documents, activations, *, block=30):
    """Write codes as two shards; ``activations`` is dense, a row a token."""
    folder.mkdir(parents=True, exist_ok=True)
    d_sae, blocks, at = activations.shape[1], [], 0
    for first in range(0, len(documents), block):
        few = documents[first : first + block]
        lengths = [len(d) for d in few]
        total = sum(lengths)
        index = np.concatenate([np.arange(n) for n in lengths])
        tokens = Tokens(
            token_id=np.concatenate(few).astype(np.int32),
            document=np.repeat(np.arange(first, first + len(few)), lengths).astype(np.int64),
            index=index.astype(np.int32),
            position=np.concatenate([positions(n) for n in lengths]).astype(np.int32),
            start=index.astype(np.int32),
            end=(index + 1).astype(np.int32),
        )
        dense = activations[at : at + total]
        row, feature = np.nonzero(dense)
        indptr = np.searchsorted(row, np.arange(total + 1))
        blocks.append(
            Block(
                len(blocks),
                tokens,
                indptr,
                feature.astype(np.uint32),
                dense[row, feature].astype(np.float32),
                d_sae,
            )
        )
        at += total
    half = max(1, len(blocks) // 2)
    for name, first, some in (("0", 0, blocks[:half]), ("1", half, blocks[half:])):
        if some:
            write_shard(folder / f"{name}.arrow", some, sae="toy", d_sae=d_sae, first=first)
    return sorted(folder.glob("*.arrow"))


def probe_data_of(folder, documents, activations, **more):
    return ProbeData(
        [write_codes(folder, documents, activations)], d_sae=activations.shape[1], **more
    )


def at_embedding(data, vectors):
    """The embedding site, with these token vectors (vocabulary, d)."""
    x = vectors[data.ids].astype(np.float32)
    return SiteDesign(
        "hook_embed", Design(x), data.type, np.arange(len(data.ids)), at_embedding=True
    )


def later(data, vectors):
    """A later site with one vector for each token, here the vector of its id."""
    x = vectors[data.ids[data.type]].astype(np.float32)
    return SiteDesign("later", Design(x), np.arange(len(data)), data.type, at_embedding=False)
