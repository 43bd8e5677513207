"""Subtractions before an SAE reads: equal to NumPy, written and read, and refused if invalid."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_ingest import CONTEXT, HOOK, model, texts, topk

from atlas.disk.folder import Folder
from atlas.errors import BadActivations, BadInput, Mismatch, UnknownName
from ingest.codes.store import read_shard
from ingest.forward.run import ingest
from ingest.sae.activation_transforms import (
    FILE,
    Components,
    Map,
    MapAndTokenMeans,
    TokenMeans,
    read_subtraction,
    write_subtraction,
)
from ingest.sae.autoencoder import check_fit, open_sae

SOURCE = "hook_embed"
WIDTH = 24


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensor(*shape, seed=0):
    return torch.from_numpy(numbers(*shape, seed=seed))


def a_map(*, d_source=WIDTH, d_in=WIDTH, source=SOURCE):
    return Map(source, tensor(d_source, d_in, seed=1) * 0.2, tensor(d_in, seed=2))


def components(m=5, *, d_in=WIDTH):
    basis = np.linalg.qr(numbers(d_in, d_in, seed=3))[0][:, :m]
    return Components(tensor(d_in, seed=4), torch.from_numpy(np.ascontiguousarray(basis)))


def token_means(*, d_in=WIDTH):
    ids = torch.tensor([3, 7, 50])
    return TokenMeans(ids, tensor(3, d_in, seed=5), tensor(d_in, seed=6))


def both(*, d_in=WIDTH):
    mapped, means = a_map(d_in=d_in), token_means(d_in=d_in)
    return MapAndTokenMeans(SOURCE, mapped.weight, mapped.bias, means.ids, means.means)


KINDS = {
    "map": a_map,
    "components": components,
    "token-means": token_means,
    "map-and-token-means": both,
}


def by_numpy(less, x, others, ids):
    if less.kind == "map":
        return x - (others[less.source] @ less.weight.numpy() + less.bias.numpy())
    if less.kind == "components":
        mean, directions = less.mean.numpy(), less.directions.numpy()
        return x - sum(np.outer((x - mean) @ one, one) for one in directions.T)
    known = dict(zip(less.ids.tolist(), less.means.numpy(), strict=True))
    if less.kind == "map-and-token-means":
        predicted = others[less.source] @ less.weight.numpy() + less.bias.numpy()
        return x - predicted - np.array([known.get(i, 0 * predicted[0]) for i in ids.tolist()])
    return x - np.array([known.get(i, less.mean.numpy()) for i in ids.tolist()])


@pytest.mark.parametrize("kind", KINDS)
def test_subtraction_equals_numpy(kind):
    less, x, source = KINDS[kind](), numbers(30, WIDTH, seed=8), numbers(30, WIDTH, seed=9)
    ids = np.random.default_rng(1).choice([3, 7, 8, 50, 99, 0], 30)
    found = less.apply(
        torch.from_numpy(x), {SOURCE: torch.from_numpy(source)}, torch.from_numpy(ids)
    )
    np.testing.assert_allclose(found.numpy(), by_numpy(less, x, {SOURCE: source}, ids), atol=1e-5)


def test_empty_subtractions():
    x, ids = tensor(4, WIDTH), torch.tensor([1, 2, 3, 4])
    none = Components(tensor(WIDTH), torch.zeros(WIDTH, 0))
    assert torch.equal(none.apply(x, {}, ids), x)
    mean = tensor(WIDTH, seed=1)
    unseen = TokenMeans(torch.zeros(0, dtype=torch.int64), torch.zeros(0, WIDTH), mean)
    assert torch.equal(unseen.apply(x, {}, ids), x - mean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subtraction_round_trips(tmp_path, kind):
    less = KINDS[kind]()
    write_subtraction(tmp_path, less)
    loaded = read_subtraction(tmp_path, d_in=WIDTH)
    assert loaded.digest() == less.digest()
    assert (loaded.description, dict(loaded.needs)) == (less.description, dict(less.needs))
    assert len({KINDS[k]().digest() for k in KINDS}) == len(KINDS)
    assert read_subtraction(tmp_path / "elsewhere", d_in=WIDTH) is None


def bad_files():
    good = a_map().tensors()
    turned = components()
    yield "kind is None", good, {}
    yield "kind is 'maps'", good, {"kind": "maps"}
    yield "source", good, {"kind": "map"}
    yield "holds", {"weight": good["weight"]}, {"kind": "map", "source": SOURCE}
    mapped = {"kind": "map", "source": SOURCE}
    yield "holds the tensors bias, weight", {**good, "source": good["bias"] + 1}, mapped
    yield "holds the tensors bias, weight", {"weight": good["weight"]}, mapped | {"bias": "0"}
    yield "NaN", {**good, "bias": good["bias"] * np.nan}, {"kind": "map", "source": SOURCE}
    yield "shape", {**good, "weight": good["weight"][:, 1:]}, {"kind": "map", "source": SOURCE}
    yield "shape", {**good, "bias": good["bias"][None]}, {"kind": "map", "source": SOURCE}
    yield "30 dimensions", a_map(d_in=30).tensors(), {"kind": "map", "source": SOURCE}
    two = {"mean": turned.mean, "directions": turned.directions * 2}
    yield "orthonormal", two, {"kind": "components"}
    means = token_means().tensors()
    yield "ascend", {**means, "ids": torch.tensor([3, 3, 5])}, {"kind": "token-means"}
    yield (
        "ascend",
        {**both().tensors(), "ids": torch.tensor([3, 3, 5])},
        {
            "kind": "map-and-token-means",
            "source": SOURCE,
        },
    )
    yield "no integers", {**means, "ids": torch.tensor([3.0, 4, 5])}, {"kind": "token-means"}
    yield "shape", {**means, "ids": torch.tensor([3, 4])}, {"kind": "token-means"}


@pytest.mark.parametrize(("message", "tensors", "metadata"), list(bad_files()))
def test_an_invalid_file_is_refused(tmp_path, message, tensors, metadata):
    topk().save_model(tmp_path)
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / FILE, metadata=metadata)
    with pytest.raises(BadInput, match=message):
        open_sae(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subtraction_of_another_width_is_refused(kind):
    with pytest.raises(Mismatch, match="of 30 dimensions, and the SAE x reads 24"):
        open_sae(topk(), name="x", less=KINDS[kind](d_in=30))
    less = KINDS[kind]()
    name = next(k for k, v in less.tensors().items() if v.ndim == 1 and k != "ids")
    broken = dataclasses.replace(less, **{name: less.tensors()[name][None]})
    with pytest.raises(BadInput, match=r"are inconsistent: .* is of shape"):
        open_sae(topk(), name="x", less=broken)


def test_a_damaged_file_is_refused(tmp_path):
    topk().save_model(tmp_path)
    (tmp_path / FILE).write_bytes(b"no safetensors")
    with pytest.raises(BadInput, match="cannot be read"):
        open_sae(tmp_path)


def by_hand(documents, lm, sae, less):
    """Compute the codes of an SAE, one context at a time, from transformers' hidden states."""
    tokenizer, found = lm.tokenizer, []
    special = set(tokenizer.all_special_ids)
    for text in documents:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(tokens), CONTEXT - 1):
            context = np.array([tokenizer.bos_token_id, *tokens[at : at + CONTEXT - 1]])
            with torch.no_grad():
                states = lm.base(torch.from_numpy(context[None]), output_hidden_states=True)
            embed, x = states.hidden_states[0][0].numpy(), states.hidden_states[2][0].numpy()
            read = by_numpy(less, x, {SOURCE: embed}, context)
            counted = [i for i, token in enumerate(context) if token not in special]
            with torch.no_grad():
                found.append(sae.encode(torch.from_numpy(read[counted])).numpy())
    return np.maximum(np.concatenate(found), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_ingested_sae_reads_activations_after_subtraction(tmp_path, kind):
    lm, plain, less, documents = model(), topk(), KINDS[kind](), texts(20)
    plain.save_model(tmp_path / "less")
    write_subtraction(tmp_path / "less", less)
    ingest(
        tmp_path / "a.atlas",
        saes=[str(tmp_path / "less"), open_sae(plain, name="plain")],
        text=documents,
        model=lm,
        match=None,
    ).close()
    folder = Folder.open(tmp_path / "a.atlas")
    blocks = [b for p in sorted(folder.codes("less").glob("*.arrow")) for b in read_shard(p)]
    codes, row = np.zeros((sum(map(len, blocks)), 40)), 0
    for block in blocks:
        codes[row + block.rows, block.indices] = block.values
        row += len(block)
    np.testing.assert_allclose(codes, by_hand(documents, lm, plain, less), atol=1e-4)
    rows = {r["name"]: r for r in (p.table("SAE").to_pylist()[0] for p in folder.sound().of("sae"))}
    assert (rows["less"]["less"], rows["plain"]["less"]) == (less.description, None)
    assert rows["less"]["weights"] != rows["plain"]["weights"]


def test_fvu_is_computed_after_subtraction(tmp_path):
    lm, documents = model(), texts(20)
    less = a_map()
    sae = open_sae(topk(), name="less", less=less)
    atlas = ingest(tmp_path / "a.atlas", saes=[sae], text=documents, model=lm)
    inputs, again = [], []
    for text in documents:
        tokens = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(tokens), CONTEXT - 1):
            context = torch.tensor([[0, *tokens[at : at + CONTEXT - 1]]])
            with torch.no_grad():
                states = lm.base(context, output_hidden_states=True).hidden_states
                x = states[2][0] - (states[0][0] @ less.weight + less.bias)
                x = x[[i for i, t in enumerate(context[0].tolist()) if t > 2]]
                inputs.append(x.double())
                again.append(topk().decode(topk().encode(x)).double())
    inputs, again = torch.cat(inputs), torch.cat(again)
    fvu = ((inputs - again) ** 2).sum() / ((inputs - inputs.mean(0)) ** 2).sum()
    assert atlas.table("SAE")["fvu"][0].as_py() == pytest.approx(float(fvu), rel=1e-4)


def test_the_other_site_must_fit_the_model():
    lm = model()
    check_fit(open_sae(topk(), name="x", less=a_map()).info, lm)
    with pytest.raises(Mismatch, match="30 dimensions, but hook_embed"):
        check_fit(open_sae(topk(), name="x", less=a_map(d_source=30)).info, lm)
    with pytest.raises(UnknownName):
        check_fit(open_sae(topk(), name="x", less=a_map(source="blocks.9.hook_mlp_out")).info, lm)


def test_nan_at_the_other_site_is_reported():
    sae = open_sae(topk(), name="x", less=a_map())
    at = {HOOK: tensor(1, 4, WIDTH), SOURCE: tensor(1, 4, WIDTH) * np.nan}
    x = sae.reads(at, torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(BadActivations, match="NaN"):
        sae.codes(x)
