"""Language models: sites compared with two references, the early stop, and refused input."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import (
    FAMILIES,
    random_gemma3_with_vision,
    random_ids,
    random_model,
    small_tokenizer,
)
from transformer_lens_models import hooked
from transformers import AutoTokenizer

from atlas.errors import BadInput, Mismatch, UnknownName
from ingest.model.language_model import LanguageModel, open_model, tokenizer_key
from ingest.model.sites import DeepestSiteRead, depth, find_site_module, reading

DATA = Path(__file__).parents[3] / "shared" / "data"

STREAM = ("hook_resid_pre", "hook_resid_post")
WRITES = ("hook_attn_out", "hook_mlp_out")
INSIDE = ("mlp.hook_post", "attn.hook_z")


def opened(model: Any, **options: Any) -> LanguageModel:
    return open_model(model, tokenizer=small_tokenizer(), **options)


def names(layer: int, *kinds: str) -> list[str]:
    return [f"blocks.{layer}.{kind}" for kind in kinds]


def has_site(model: LanguageModel, hook: str) -> bool:
    try:
        model.site(hook)
    except Mismatch:
        return False
    return True


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    model = random_model(request.param)
    return model, opened(model)


def test_stream_equals_hidden_states(family: Any) -> None:
    model, ours = family
    ids, mask = random_ids()
    hooks = ["hook_embed", *(n for layer in range(3) for n in names(layer, *STREAM))]
    read = ours.run(ids, mask, hooks=hooks)
    with torch.no_grad():
        states = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    for layer in range(3):
        torch.testing.assert_close(read[f"blocks.{layer}.hook_resid_pre"], states[layer])
    for layer in range(2):  # the last of the hidden states has passed the final norm
        torch.testing.assert_close(read[f"blocks.{layer}.hook_resid_post"], states[layer + 1])
    if model.config.model_type not in ("gpt2", "gpt_neo"):  # these add positions afterwards
        torch.testing.assert_close(read["hook_embed"], states[0])


def test_outputs_of_attention_and_mlp_add_up_to_the_stream(family: Any) -> None:
    _, ours = family
    ids, mask = random_ids()
    for layer in range(3):
        read = ours.run(ids, mask, hooks=names(layer, *STREAM, *WRITES))
        before, after, attention, mlp = read.values()
        torch.testing.assert_close(before + attention + mlp, after, rtol=1e-4, atol=1e-4)


def test_resid_mid_is_the_stream_after_attention(family: Any) -> None:
    model, ours = family
    ids, mask = random_ids()
    hook = "blocks.1.hook_resid_mid"
    parallel = model.config.model_type == "phi" or getattr(
        model.config, "use_parallel_residual", False
    )
    if parallel:
        with pytest.raises(Mismatch, match="read the same stream"):
            ours.site(hook)
        return
    read = ours.run(ids, mask, hooks=[hook, *names(1, "hook_resid_pre", "hook_attn_out")])
    middle, before, attention = read.values()
    torch.testing.assert_close(before + attention, middle, rtol=1e-4, atol=1e-4)


def test_width_of_a_site_is_the_width_of_its_activations(family: Any) -> None:
    _, ours = family
    ids, mask = random_ids()
    hooks = ["hook_embed", *names(2, *STREAM, *WRITES, *INSIDE)]
    for hook, values in ours.run(ids, mask, hooks=hooks).items():
        site = ours.site(hook)
        assert values.shape == (*ids.shape, site.width)
        assert site.layer == (None if hook == "hook_embed" else 2)


@pytest.mark.parametrize(
    "name", ["llama", "gemma2", "gpt2", "gpt_neo", "gpt_neox", "gpt_neox_serial", "phi"]
)
def test_sites_equal_transformer_lens(name: str) -> None:
    model = random_model(name)
    ours, lens = opened(model), hooked(model)
    ids, _ = random_ids(length=16)
    within = (*STREAM, *WRITES, *INSIDE)
    if name not in ("gpt_neox", "phi"):  # parallel: there is no middle
        within = (*within, "hook_resid_mid")
    hooks = ["hook_embed", *(n for layer in range(3) for n in names(layer, *within))]
    read = ours.run(ids, torch.ones_like(ids), hooks=hooks)
    with torch.no_grad():
        _, cache = lens.run_with_cache(ids)
    for hook in hooks:
        expected = cache[hook].flatten(2) if hook.endswith("hook_z") else cache[hook]
        torch.testing.assert_close(read[hook], expected, rtol=1e-3, atol=1e-4, msg=hook)


def test_block_20_output_is_resid_post_of_block_20_not_19() -> None:
    """The code of the original study read hidden_states[20], the output of block 19, for layer 20."""
    model = random_model("gemma2", layers=22)
    ids, mask = random_ids()
    read = opened(model).run(ids, mask, hooks=["blocks.20.hook_resid_post"])
    with torch.no_grad():
        states = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    torch.testing.assert_close(read["blocks.20.hook_resid_post"], states[21])
    assert not torch.allclose(read["blocks.20.hook_resid_post"], states[20], atol=1e-2)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "gpt_neo", "gpt_neox", "phi"])
def test_last_resid_post_has_not_passed_the_final_norm(name: str) -> None:
    model = random_model(name)
    ids, mask = random_ids()
    last = opened(model).run(ids, mask, hooks=["blocks.2.hook_resid_post"])
    with torch.no_grad():
        state = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    norms = [m for n, m in model.base_model.named_children() if "norm" in n or n == "ln_f"]
    raw = last["blocks.2.hook_resid_post"]
    assert not torch.allclose(raw, state, atol=1e-2)
    with torch.inference_mode():
        torch.testing.assert_close(norms[0](raw), state, rtol=1e-4, atol=1e-4)


class Counter:
    """Counts how often each block of a model is finished."""

    def __init__(self, model: Any) -> None:
        self.begun = [0] * model.config.num_hidden_layers
        self.ended = list(self.begun)
        base = model.base_model
        for number, block in enumerate(getattr(base, "layers", None) or base.h):
            block.register_forward_pre_hook(lambda *_, n=number: self._add(self.begun, n))
            block.register_forward_hook(lambda *_, n=number: self._add(self.ended, n))

    @staticmethod
    def _add(counts: list[int], number: int) -> None:
        counts[number] += 1


def test_depth_is_the_order_in_which_sites_are_computed(family: Any) -> None:
    _, ours = family
    hooks = ["hook_embed"]
    for layer in range(ours.layers):
        hooks += [
            hook
            for hook in names(
                layer, "hook_resid_pre", *INSIDE, *WRITES, "hook_resid_mid", "hook_resid_post"
            )
            if has_site(ours, hook)
        ]
    modules = {
        hook: find_site_module(ours.base, ours.layout, hook, name="m", layers=ours.layers)
        for hook in hooks
    }
    with reading(ours.base, modules) as seen, suppress(DeepestSiteRead):
        ours.base(random_ids()[0])
    assert set(seen) == set(hooks)
    met = [depth(hook, model="m", layers=ours.layers) for hook in seen]
    assert met == sorted(met)
    # Only the output of a block and the input of the next are one site under two names.
    assert len(met) - len(set(met)) == ours.layers - 1


@pytest.mark.parametrize(
    ("hooks", "begun", "ended"),
    [
        (["hook_embed"], [0, 0, 0, 0], [0, 0, 0, 0]),
        (["blocks.1.hook_resid_post"], [1, 1, 0, 0], [1, 1, 0, 0]),
        (["blocks.2.hook_resid_pre", "blocks.0.hook_mlp_out"], [1, 1, 1, 0], [1, 1, 0, 0]),
        (["blocks.1.hook_attn_out"], [1, 1, 0, 0], [1, 0, 0, 0]),
        (["blocks.3.hook_resid_post"], [1, 1, 1, 1], [1, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_forward_stops_after_the_deepest_site(
    name: str, hooks: list[str], begun: list[int], ended: list[int]
) -> None:
    model = random_model(name, layers=4)
    counter = Counter(model)
    opened(model).run(*random_ids(), hooks=hooks)
    assert counter.begun == begun
    assert counter.ended == ended


def test_model_in_memory_is_not_changed() -> None:
    model = random_model("gpt2").train()
    model.base_model.h[1].eval()
    before = {name: module.training for name, module in model.named_modules()}
    ours = opened(model)
    ids, mask = random_ids()
    first = ours.run(ids, mask, hooks=["blocks.2.hook_resid_post"])
    again = ours.run(ids, mask, hooks=["blocks.2.hook_resid_post"])
    torch.testing.assert_close(first, again, rtol=0, atol=0)  # dropout was off
    assert {name: module.training for name, module in model.named_modules()} == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_hooks_are_removed_after_a_failure() -> None:
    model = random_model("llama")
    ours = opened(model)
    model.base_model.layers[1].mlp.down_proj.weight = torch.nn.Parameter(torch.zeros(24, 7))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ours.run(*random_ids(), hooks=["blocks.1.hook_resid_post"])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_padding_does_not_change_the_tokens(family: Any) -> None:
    _, ours = family
    ids, mask = random_ids()
    short, hook = ids[-1:, :8], "blocks.2.hook_resid_post"
    padded = ours.run(ids, mask, hooks=[hook])[hook][-1:, :8]
    alone = ours.run(short, torch.ones_like(short), hooks=[hook])[hook]
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-4)


def saved(folder: Path, name: str = "llama", **settings: Any) -> tuple[Any, Path]:
    model = random_model(name, **settings)
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return model, folder


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "gpt_neox_serial"])
def test_folder_is_loaded_as_deep_as_needed(name: str, tmp_path: Path) -> None:
    model, folder = saved(tmp_path / "tiny", name)
    hook = "blocks.1.hook_resid_post"
    ours = open_model(folder, hooks=[hook, "hook_embed"], device="cpu")
    assert (ours.name, ours.source, ours.layers, ours.d_model) == ("tiny", str(folder), 3, 24)
    ids, mask = random_ids()
    complete = opened(model)
    torch.testing.assert_close(
        ours.run(ids, mask, hooks=[hook]), complete.run(ids, mask, hooks=[hook]), rtol=0, atol=0
    )
    again = open_model(str(folder), device="cpu")
    assert (again.name, again.source) == (ours.name, ours.source)
    assert ours.weights == complete.weights == again.weights
    assert not any("lm_head" in n for n, _ in ours.base.named_parameters())
    if name != "gpt_neo":
        blocks = ours.base.get_submodule(ours.layout.blocks)
        assert len(blocks) == 2  # type: ignore[arg-type]
        with pytest.raises(Mismatch, match="first 2 of 3 blocks"):
            ours.run(ids, mask, hooks=["blocks.2.hook_resid_post"])
    assert ours.site("blocks.2.mlp.hook_post").width == 40


def test_language_part_of_a_multimodal_model_is_opened(tmp_path: Path) -> None:
    model = random_gemma3_with_vision()
    model.save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    hook = "blocks.1.hook_resid_post"
    ids, mask = random_ids(vocabulary=90)
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[2]
    ours = open_model(tmp_path, hooks=[hook], device="cpu")
    assert (ours.architecture, ours.layers, len(ours.base.layers)) == ("gemma3_text", 3, 2)
    assert ours.weights == opened(model).weights
    for one in (ours, opened(model)):
        torch.testing.assert_close(one.run(ids, mask, hooks=[hook])[hook], expected)


def test_dtype_is_float32_unless_requested(tmp_path: Path) -> None:
    model = random_model("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    assert open_model(tmp_path, device="cpu").dtype == "float32"
    half = open_model(tmp_path, device="cpu", dtype="bfloat16")
    assert half.dtype == "bfloat16"
    read = half.run(*random_ids(), hooks=["blocks.0.hook_resid_post"])
    assert read["blocks.0.hook_resid_post"].dtype == torch.bfloat16
    assert opened(model).dtype == "bfloat16"  # a model in memory is not cast
    with pytest.raises(BadInput, match="'int8' is none of auto, float32"):
        open_model(tmp_path, dtype="int8")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_cast_in_memory_equals_loading_in_that_format(
    family: str, dtype: str, tmp_path: Path
) -> None:
    model, hook = random_model(family), "blocks.2.hook_resid_post"
    model.save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    from_files = open_model(tmp_path, hooks=[hook], device="cpu", dtype=dtype)
    in_memory = open_model(model, tokenizer=small_tokenizer(), dtype=dtype)
    assert in_memory.dtype == from_files.dtype == dtype
    ids = torch.arange(60)[None] % 90  # angles of rotary embeddings grow with the position
    expected, found = (
        each.run(ids, torch.ones_like(ids), hooks=[hook])[hook] for each in (from_files, in_memory)
    )
    assert torch.equal(found, expected)


def test_weights_of_different_models_have_different_hashes() -> None:
    prints = {opened(random_model("llama", seed=seed)).weights for seed in (0, 1)}
    prints.add(opened(random_model("llama", rms_norm_eps=1e-3)).weights)
    assert len(prints) == 3
    assert opened(random_model("llama")).weights in prints


def test_name_of_a_model_in_memory() -> None:
    ours = opened(random_model("llama"))
    assert ours.source == "memory"
    assert ours.name == f"llama-{ours.weights[:8]}"
    assert opened(random_model("llama"), name="mine").name == "mine"


def test_unknown_architecture_has_only_the_stream() -> None:
    model = random_model("llama")
    model.config.model_type = "strange"
    ours = opened(model)
    ids, mask = random_ids()
    hooks = ["hook_embed", *names(1, *STREAM)]
    with torch.no_grad():
        states = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    torch.testing.assert_close(list(ours.run(ids, mask, hooks=hooks).values()), list(states[:3]))
    with pytest.raises(Mismatch, match="architecture strange is not known"):
        ours.site("blocks.1.hook_mlp_out")


def test_model_without_blocks_is_refused() -> None:
    model = random_model("llama")
    model.config.model_type = "strange"
    model.base_model.layers = torch.nn.Sequential(*model.base_model.layers)
    with pytest.raises(Mismatch, match="blocks of a LlamaModel were not found"):
        opened(model)


@pytest.mark.parametrize(
    ("hook", "nearest"),
    [
        ("blocks.1.resid_post", "blocks.1.hook_resid_post"),
        ("blocks.3.hook_resid_post", "blocks 0 to 2"),
        ("embed", "hook_embed"),
        ("blocks.x.hook_mlp_out", "hook_mlp_out"),
        ("blocks.1.hook_resid_post ", "blocks.1.hook_resid_post"),
    ],
)
def test_unknown_site_is_reported_with_the_nearest(hook: str, nearest: str) -> None:
    ours = opened(random_model("llama"))
    with pytest.raises(UnknownName, match=nearest.replace(".", r"\.")):
        ours.site(hook)
    with pytest.raises(UnknownName, match=nearest.replace(".", r"\.")):
        ours.run(*random_ids(), hooks=[hook])


def test_unknown_site_is_refused_before_weights_are_loaded(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "tiny")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnknownName):
        open_model(folder, hooks=["blocks.7.hook_resid_post"])


def test_token_ids_beyond_the_vocabulary_are_refused() -> None:
    ours = opened(random_model("llama"))
    ids, mask = random_ids()
    ids[0, 0] = 96
    with pytest.raises(BadInput, match=r"from 0 to 95, .* to 96 were passed\. Use"):
        ours.run(ids, mask, hooks=["hook_embed"])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_contexts_longer_than_the_model_allows_are_refused(name: str) -> None:
    ours = opened(random_model(name))
    ours.run(*random_ids(length=64), hooks=["blocks.0.hook_resid_post"])
    with pytest.raises(BadInput, match="at most 64 tokens, and 65 were passed"):
        ours.run(*random_ids(length=65), hooks=["blocks.0.hook_resid_post"])


def test_tokenizer_of_a_larger_model_is_refused() -> None:
    with pytest.raises(Mismatch, match=r"96 tokens.*vectors for 50"):
        opened(random_model("llama", vocab_size=50))


def test_invalid_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no folder"):
        open_model(tmp_path / "absent")
    with pytest.raises(BadInput, match="holds no config"):
        open_model(tmp_path)
    with pytest.raises(BadInput, match="A list was passed as a model"):
        open_model([], tokenizer=small_tokenizer())  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="without its tokenizer"):
        open_model(random_model("llama"))
    with pytest.raises(BadInput, match="device 'abacus'"):
        opened(random_model("llama"), device="abacus")
    with pytest.raises(BadInput, match="fast tokenizer"):
        open_model(random_model("llama"), tokenizer=object())


def test_folder_without_tokenizer_or_weights_is_refused(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="tokenizer"):
        open_model(tmp_path, device="cpu")
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BadInput, match="it is damaged, or not a safetensors file"):
        open_model(tmp_path, device="cpu", tokenizer=small_tokenizer())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="has no weights"):
        open_model(tmp_path, device="cpu", tokenizer=small_tokenizer())


def test_weights_without_a_block_are_refused(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "tiny", layers=2)
    config = random_model("llama", layers=3).config
    config.save_pretrained(folder)
    with pytest.raises(
        BadInput, match=r"9 parameters .* are missing from its files, such as layers\.2"
    ):
        open_model(folder, device="cpu")


def test_tokenizer_key_depends_on_the_vocabulary_alone() -> None:
    one, same, other = small_tokenizer(), small_tokenizer(), small_tokenizer(vocabulary=90)
    same.pad_token = "<eos>"
    same(["the cat", "the"], padding="max_length", truncation=True, max_length=2)
    assert tokenizer_key(one) == tokenizer_key(same) != tokenizer_key(other)
    assert len(tokenizer_key(one)) == 12


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="the folder shared/ with the models is missing")
@pytest.mark.parametrize("name", ["stories260K", "stories3M"])
def test_trained_model_is_opened_from_its_folder(name: str) -> None:
    folder = DATA / "models" / name
    hook = "blocks.1.hook_resid_post"
    ours = open_model(folder, hooks=[hook], device="cpu")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer("Once upon a time there was a little girl.")["input_ids"]])
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True).hidden_states[2]
    read = ours.run(ids, torch.ones_like(ids), hooks=[hook])[hook]
    torch.testing.assert_close(read, expected)
