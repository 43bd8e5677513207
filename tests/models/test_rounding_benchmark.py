"""The benchmark of rounding: float64 is compared with float32, and bfloat16 changes more codes."""

import torch
from random_models import TEXT, random_model, small_tokenizer
from small_ingest import HOOK, jumprelu

from benchmarks.rounding import compare, flips_between
from ingest.forward.format_check import Flips
from ingest.model.language_model import open_model
from ingest.sae.autoencoder import open_sae


def test_codes_of_one_computation_only_are_counted() -> None:
    one = flips_between(torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.0, 0.0, 5.0]]))
    two = flips_between(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
    assert one + two == Flips(tokens=2, active=3, flipped=2)
    assert (one + two).share == 2 / 3
    assert Flips().share == 0


def test_bfloat16_changes_codes_and_wider_sums_hardly_any() -> None:
    model = open_model(random_model("llama"), tokenizer=small_tokenizer(), hooks=[HOOK])
    shares = compare(model, open_sae(jumprelu()), [TEXT] * 20, tokens=300)
    assert all(share.tokens >= 300 for share in shares.values())
    assert shares["bfloat16"].flipped > 0
    assert shares["sae"].flipped <= 2
    assert shares["both"].flipped <= 2
    assert all(share.active > 0 for share in shares.values())
