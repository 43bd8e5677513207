"""The list of known SAEs equals the registry of sae-lens, and is searched without importing it."""

import io
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from huggingface_hub.errors import EntryNotFoundError
from rich.console import Console
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from atlas.cli.main import main
from atlas.errors import BadInput, Mismatch, Missing, UnknownName
from ingest import error_translation, hub_reach
from ingest.error_translation import check_in_reach, reached
from ingest.model.loading import load_model
from ingest.sae import loading
from ingest.sae.autoencoder import open_sae
from ingest.sae.registry.known import (
    KnownSae,
    _known,
    by_neuronpedia,
    by_release,
    known_saes,
    releases,
    search_saes,
)
from ingest.sae.registry.names import PATTERNS, demo_names, short_names
from ingest.sae.registry.suggestions import near_names, near_words


def test_the_list_equals_the_registry_of_sae_lens():
    registry = get_pretrained_saes_directory()
    expected = {(release, sae) for release, about in registry.items() for sae in about.saes_map}
    assert {(one.release, one.sae_id) for one in known_saes()} == expected
    for one in known_saes()[::97]:
        about = registry[one.release]
        assert (one.model, one.repo) == (about.model, about.repo_id)
        assert one.neuronpedia == (about.neuronpedia_id.get(one.sae_id) or "")
        assert one.l0 == (about.expected_l0.get(one.sae_id) or None)


def _of(conversion: str) -> list[KnownSae]:
    registry = get_pretrained_saes_directory()
    return [k for k in known_saes() if registry[k.release].conversion_func == conversion]


@pytest.mark.parametrize(
    ("conversion", "config"),
    [
        ("gemma_2", loaders.get_gemma_2_config_from_hf),
        ("gemma_2_transcoder", loaders.get_gemma_2_transcoder_config_from_hf),
        ("gemma_3", loaders.get_gemma_3_config_from_hf),
        ("qwen_scope", loaders.get_qwen_scope_config_from_hf),
        ("goodfire", loaders.get_goodfire_config_from_hf),
        ("deepseek_r1", loaders.get_deepseek_r1_config_from_hf),
    ],
)
def test_sites_and_widths_equal_those_that_sae_lens_derives(conversion, config, monkeypatch):
    def download(*_, **__):
        raise EntryNotFoundError("no config.json")

    monkeypatch.setattr(loaders, "hf_hub_download", download)
    shapes = {"w_enc": [2, 3], "w_dec": [3, 2]}
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", lambda *_: shapes)
    saes = _of(conversion)
    assert saes
    for one in saes:
        theirs = config(one.repo, one.path, "cpu")
        # sae-lens' name for the input of the MLP of Gemma 3 is that of the stream before the norm.
        expected = theirs["hook_name"].replace("hook_mlp_in", "mlp.hook_in")
        assert one.site == expected, one.name
        if one.width and conversion != "gemma_3":  # whose width is that of the file
            stated = float(one.width[:-1]) * {"k": 1e3, "m": 1e6}[one.width[-1]]
            assert 0.94 < stated / theirs["d_sae"] <= 1, one.name


@pytest.mark.parametrize(
    ("name", "site", "width"),
    [
        ("gpt2-small-res-jb:blocks.8.hook_resid_pre", "blocks.8.hook_resid_pre", ""),
        ("gpt2-small-hook-z-kk:blocks.5.hook_z", "blocks.5.attn.hook_z", "49152"),
        (
            "gpt2-small-res-jb-feature-splitting:blocks.8.hook_resid_pre_768",
            "blocks.8.hook_resid_pre",
            "768",
        ),
        ("gpt2-small-mlp-out-v5-32k:blocks.3.hook_mlp_out", "blocks.3.hook_mlp_out", "32k"),
        ("llama_scope_lxa_8x:l31a_8x", "blocks.31.hook_attn_out", "32k"),
        ("llama_scope_r1_distill:l7r_800m_slimpajama", "blocks.7.hook_resid_post", "32k"),
        ("mwhanna-qwen3-4b-transcoders:layer_9", "blocks.9.mlp.hook_in", ""),
        ("pythia-70m-deduped-att-sm:blocks.2.hook_attn_out", "blocks.2.hook_attn_out", ""),
        (
            "saebench_gemma-2-2b_width-2pow16_date-0107:blocks.12.hook_resid_post__trainer_5",
            "blocks.12.hook_resid_post",
            "65k",
        ),
        (
            "qwen2.5-7b-instruct-andyrdt:resid_post_layer_3_trainer_1",
            "blocks.3.hook_resid_post",
            "",
        ),
        ("gemma-scope-2b-pt-res:embedding/width_4k/average_l0_6", "hook_embed", "4k"),
    ],
)
def test_site_and_width_of_other_releases(name, site, width):
    (one,) = [known for known in known_saes() if known.name == name]
    assert (one.site, one.width) == (site, width)


def test_no_width_is_the_size_of_a_model_or_a_number_of_tokens():
    widths = {one.width for one in known_saes()}
    assert {w for w in widths if w.endswith("m")} == {"1m"}
    assert widths <= {
        *("", "4k", "16k", "32k", "64k", "65k", "80k", "128k", "131k", "262k", "524k", "1m"),
        *("768", "1536", "3072", "6144", "12288", "16384", "24576", "49152", "98304"),
    }
    assert sum(not one.width for one in known_saes()) < 400
    without = {one.release for one in known_saes() if not one.site}
    assert without == {"mntss-gemma-2-2b-2.5m-clt-as-per-layer"}


def test_a_search_by_model_and_site_finds_releases_whose_ids_do_not_name_it():
    rows = search_saes("gemma-2-2b .20.hook_resid_post 16k", short=short_names())
    assert "gemmascope-l20" in {row["short"] for row in rows}
    assert {row["site"] for row in rows} == {"blocks.20.hook_resid_post"}


def test_every_short_name_is_in_the_registry():
    names = {one.name for one in known_saes()}
    assert {f"{release}:{sae}" for release, sae in short_names().values()} <= names


def test_search_equals_a_loop_and_requires_all_words():
    rows = search_saes("GPT2 resid_pre", short=short_names())
    expected = {
        one.name
        for one in known_saes()
        if "gpt2" in f"{one.name} {one.model} {one.site} {one.neuronpedia}".lower()
        and "resid_pre" in f"{one.name} {one.model} {one.site} {one.neuronpedia}".lower()
    }
    assert {row["name"] for row in rows} == expected
    assert {row["short"] for row in rows} >= {"gpt2-res-l0", "gpt2-res-l11"}
    assert search_saes("no such sae", short={}) == []
    names = [one.name for one in known_saes()]
    assert near_words("gtp2 resid_pre", names=names, models={}) == ["gpt2"]
    assert near_words("gpt2", names=names, models={}) == []
    assert near_words("qqqqqqqq \x1b[2J", names=names, models={}) == []
    assert len(search_saes(short={})) == len(known_saes())


def test_only_saes_with_weights_in_the_cache_are_cached(hub):
    repo = "jbloom/GPT2-Small-SAEs-Reformatted"
    _file(repo, "blocks.7.hook_resid_pre/cfg.json")  # without its weights
    assert search_saes(short={}, cached=True) == []
    assert not any(row["cached"] for row in releases(short={}))
    _file(repo, "blocks.8.hook_resid_pre/sae_weights.safetensors")
    _file("Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50", "layer3.sae.pt")  # a file, not a folder
    rows = search_saes(short={}, cached=True)
    assert [row["name"] for row in rows] == [
        "gpt2-small-res-jb:blocks.8.hook_resid_pre",
        "qwen-scope-3-1.7b-base-w32k-l50:layer3",
    ]
    assert all(row["cached"] for row in rows)
    found = {row["release"] for row in releases(short={}) if row["cached"]}
    assert found == {"gpt2-small-res-jb", "qwen-scope-3-1.7b-base-w32k-l50"}


@pytest.mark.parametrize(
    "text",
    [
        "gpt2-small/8-res-jb",
        "https://www.neuronpedia.org/gpt2-small/8-res-jb",
        "https://neuronpedia.org/gpt2-small/8-res-jb/561",
        "neuronpedia.org/gpt2-small/8-res-jb?embed=true",
    ],
)
def test_neuronpedia_ids_and_addresses(text, monkeypatch):
    known = by_neuronpedia(text)
    assert known.name == "gpt2-small-res-jb:blocks.8.hook_resid_pre"
    monkeypatch.setattr(loading, "_from_release", lambda release, sae, name: (release, sae))
    assert loading._by_name(text) == ("gpt2-small-res-jb", "blocks.8.hook_resid_pre")


@pytest.mark.parametrize("text", ["notes/sae", "release:a/b", "a", "", "a/b/c", "../x"])
def test_other_names_are_no_neuronpedia_ids(text):
    assert by_neuronpedia(text) is None


def test_an_unknown_address_is_one_message():
    with pytest.raises(BadInput, match="atlas saes"):
        by_neuronpedia("https://www.neuronpedia.org/no-model/1-none")


def _models() -> dict[str, str]:
    """Return the model by release and by short name; instruction-tuned ones are distinguished."""
    by_release = {one.release: one.model.rpartition("/")[2].lower() for one in known_saes()}
    # sae-lens' registry has the base model here; its repository is that of gemma-2-9b-it.
    by_release["gemma-scope-9b-it-res"] = "gemma-2-9b-it"
    short = {name: by_release[release] for name, (release, _) in short_names().items()}
    return by_release | short


def test_a_suggestion_is_of_the_same_model_for_every_name_without_one_of_its_other_words():
    models = _models()
    releases_only = [name for name in models if name not in short_names()]
    other = re.compile(
        r"^(res|mlp|att|canonical|transcoders?|all|jb|sm|dc|w\d+k|l\d+|v\d+|\d+k|\d+x|lx[rma])$"
    )
    tried = 0
    for name in [*releases_only, *[pattern.name.format(L=1) for pattern in PATTERNS]]:
        words = re.split(r"([-_])", name)
        known = releases_only if name in releases_only else list(short_names())
        for n, word in enumerate(words):
            if not other.match(word):
                continue
            typed = "".join([*words[:n], "zzz", *words[n + 1 :]])
            near = near_names(typed, known, models=models)
            assert {models[each] for each in near} <= {models[name]}, typed
            tried += len(near) > 0
    assert tried > 200


def test_nothing_is_suggested_for_a_model_without_saes():
    models = _models()
    for name in models:
        known = list(short_names()) if name in short_names() else models.keys() - short_names()
        sizes = re.findall(r"(?<![\da-z.])\d+(?:\.\d+)?[bm](?![a-z\d])", name)
        for size in sizes:  # no model of the registry has this size
            assert near_names(name.replace(size, "77b", 1), known, models=models) == []
    for name in (
        "gemma-scope-2b-pt-res",
        "gemma-scope-2-4b-pt-res",
        "qwen-scope-3-8b-base-w64k-l50",
    ):
        near = near_names(name.replace("-scope", "-scope-9", 1), models, models=models)
        assert near == []


def test_pt_and_it_are_not_exchanged():
    models = _models()
    releases_only = models.keys() - short_names()
    swapped = {
        name: re.sub(r"-(pt|it)-", lambda m: "-it-" if m[1] == "pt" else "-pt-", name)
        for name in releases_only
    }
    for name, typed in swapped.items():
        if typed != name:
            near = near_names(f"{typed}-x", releases_only, models=models)
            tuned = {models[each].endswith(("-it", "-instruct")) for each in near}
            assert tuned <= {"-it-" in typed}, typed


@pytest.mark.parametrize(
    "name",
    [
        "gemmascope3-l12",
        "gpt2-medium-res-l3",
        "gpt2-xl-res-l3",
        "llamascope-3.2-l3",
        "qwenscope-3.5-9b-l3",
        "gemma-scope-2-9b-pt-res:x",
        "gemma-scope-2-2b-pt-res:x",
        "opt-res-l3",
    ],
)
def test_names_that_were_answered_with_another_model_have_no_suggestion(name):
    with pytest.raises(UnknownName) as raised:
        loading._by_name(name)
    assert raised.value.nearest == []
    assert "Nearest" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gemmascope-l112", "gemmascope-l12"),
        ("gemascope-l12", "gemmascope-l12"),
        ("gpt2-small-res-l3", "gpt2-res-l3"),
        ("tinyb-l1-s0", "tiny-b-l1-s0"),
        ("llama-3-8b-instruct-andyrdt:x", "llama-3-8b-it-res-jh"),
        ("llama_scope_r1_lxr:x", "llama_scope_r1_distill"),
    ],
)
def test_a_typing_error_is_answered_with_the_name(name, near):
    with pytest.raises(UnknownName) as raised:
        loading._by_name(name)
    assert near in raised.value.nearest


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("gemmascope2-l12", {"270m", "1b", "4b", "12b", "27b"}),
        ("qwenscope-l3", {"1.7b", "8b"}),
        ("gemma-scope-pt-rez:x", {"2b", "9b", "27b"}),
    ],
)
def test_a_name_without_a_size_is_answered_with_every_size(name, sizes, capsys):
    with pytest.raises(UnknownName) as raised:
        loading._by_name(name)
    layer = name.rpartition("-")[2]
    assert len(raised.value.nearest) == len(sizes)
    for size in sizes:
        (found,) = [each for each in raised.value.nearest if f"-{size}-" in each]
        assert ":" in name or found.endswith(f"-{layer}")
    if ":" not in name:
        with pytest.raises(SystemExit):
            main(["saes", name])
        shown = capsys.readouterr().err
        assert all(each in shown for each in raised.value.nearest)
        assert not re.search(r"gemmascope[,. ]", shown)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("gemma-scope-3b-pt-res-canonical:x", None),
        ("gemma-scope-2b-pt-rez-canonical:x", "2b"),
        ("qwenscope-8b-l99", "8b"),
        ("gemmascope2-270m-l99", "270m"),
        ("pythia-160m-res-l3", None),
    ],
)
def test_a_suggestion_has_the_size_of_the_model(name, of):
    with pytest.raises(UnknownName) as raised:
        loading._by_name(name)
    if of is None:
        assert raised.value.nearest == []
        assert "There are:" not in str(raised.value)
    else:
        assert raised.value.nearest
        assert all(of in each.split("-") for each in raised.value.nearest)


class _Hub(BaseHTTPRequestHandler):
    """A hub that answers every request with one status, and counts them."""

    status = 200
    requests: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.requests.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache, and a function that starts a hub with an address; no request goes elsewhere."""
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy", "hf_hub_etag_timeout"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    servers = []

    def start(status):
        handler = type("Handler", (_Hub,), {"status": status, "requests": []})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{servers[-1].server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        return handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _file(repo: str, path: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    top = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots" / "abc"
    file = top / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
    return file


def _forbid(monkeypatch, *modules):
    """Let the import of modules that take seconds, or ask the hub for half a minute, fail."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


UNCACHED = ["gpt2-small/8-res-jb", "gemmascope-l20", "somebody/saes:folder/of/one"]


@pytest.mark.parametrize("name", UNCACHED)
@pytest.mark.parametrize("other_is_cached", [False, True])
def test_an_uncached_sae_is_reported_before_a_library_is_imported(
    name, other_is_cached, hub, monkeypatch
):
    if other_is_cached:  # another SAE of the same repository
        _file(
            "jbloom/GPT2-Small-SAEs-Reformatted", "blocks.7.hook_resid_pre/sae_weights.safetensors"
        )
        _file("google/gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_20/params.npz")
        _file("somebody/saes", "folder/of/two/sae_weights.safetensors")
    _forbid(monkeypatch, "sae_lens", "sae_lens.loading", "requests")
    with pytest.raises(Missing, match="the hub was not reached"):
        loading._by_name(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Missing, match="HF_HUB_OFFLINE is set"):
        loading._by_name(name)


def test_a_hub_that_is_silent_is_waited_for_once(hub, monkeypatch):
    limits = []

    class Thread:
        def __init__(self, **_):
            pass

        def start(self):
            pass

        def join(self, limit):
            limits.append(limit)

    monkeypatch.setattr(hub_reach.threading, "Thread", Thread)
    _forbid(monkeypatch, "sae_lens")
    with pytest.raises(Missing, match=r"did not answer within 1\.2 s"):
        loading._by_name("gpt2-res-l8")
    assert limits == [1.2]
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "10")
    with pytest.raises(Missing, match="did not answer within 10 s"):
        loading._by_name("gpt2-res-l8")
    assert limits == [1.2, 10]


@pytest.mark.parametrize(
    ("status", "why"), [(200, ""), (404, ""), (503, "the hub was not reached")]
)
def test_one_request_decides_whether_the_hub_answers(status, why, hub):
    handler = hub(status)
    assert hub_reach.why_out_of_reach() == why
    assert len(handler.requests) == 1


def test_a_proxy_without_a_connection_is_out_of_reach(hub, monkeypatch):
    handler = hub(504)
    from huggingface_hub import constants

    monkeypatch.setenv("http_proxy", constants.ENDPOINT)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.invalid")
    assert hub_reach.why_out_of_reach() == "the hub was not reached"
    assert handler.requests == ["http://hub.invalid"]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert hub_reach.why_out_of_reach() == "the hub was not reached"


def test_a_cached_sae_needs_no_hub(hub):
    repo, path = "google/gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71"
    assert not hub_reach.is_cached(repo, path)
    file = _file(repo, f"{path}/params.npz")
    check_in_reach("SAE", "x", repo=repo, path=path)
    target = file.with_name("blob")
    file.rename(target)
    file.symlink_to(target)
    assert hub_reach.is_cached(repo, path)
    for odd in ("a[b", "a**b", "/", "..", "../../..", "\0"):
        assert not hub_reach.is_cached(repo, odd)
    target.unlink()  # the download was interrupted, or the file was deleted
    assert not hub_reach.is_cached(repo, path)


def test_an_uncached_model_is_reported_before_transformers_is_imported(hub, monkeypatch):
    _forbid(monkeypatch, "transformers")
    with pytest.raises(Missing, match="the hub was not reached"):
        load_model(
            "a/b",
            hooks=["blocks.0.hook_resid_post"],
            device="cpu",
            dtype="auto",
            revision=None,
            kwargs={},
        )


def test_libraries_use_their_cache_only_while_the_hub_is_out_of_reach(hub):
    from huggingface_hub import constants, hf_hub_download

    states = []

    def download():
        with reached("model", "m", repo="a/m"):
            states.append(constants.is_offline_mode())
            hf_hub_download("a/m", "config.json", cache_dir=constants.HF_HUB_CACHE)

    with pytest.raises(Missing, match="the hub was not reached"):
        download()
    assert states == [True]
    assert not constants.is_offline_mode()
    hub(200)
    with reached("model", "m", repo="a/m"):
        assert not constants.is_offline_mode()


def test_a_slow_hub_does_not_switch_libraries_to_an_older_commit_in_the_cache(hub, monkeypatch):
    from huggingface_hub import constants

    asked = []
    monkeypatch.setattr(error_translation, "why_out_of_reach", lambda: asked.append(1) or "slow")
    with reached("model", "m", repo="a/m"):
        assert constants.is_offline_mode()  # nothing is in the cache, so nothing older is loaded
    _file("a/m", "config.json")
    with reached("model", "m", repo="a/m"):
        assert not constants.is_offline_mode()
    _file("b/saes", "layer_1/params.npz")
    with reached("SAE", "s", repo="b/saes"):
        assert not constants.is_offline_mode()
    assert asked == [1]


def test_releases_that_cannot_be_read_are_refused_with_the_reason():
    with pytest.raises(Mismatch, match="complete context"):
        loading._by_name(next(k.name for k in known_saes() if "temporal" in k.release))
    by_page = next(k.neuronpedia for k in known_saes() if "temporal" in k.release)
    with pytest.raises(Mismatch, match="complete context"):
        loading._by_name(by_page)
    rows = search_saes("temporal", short={})
    assert all("complete context" in row["refused"] for row in rows if "temporal" in row["name"])
    assert search_saes("gpt2-small-res-jb:blocks.8", short={})[0]["refused"] is None


def test_cross_layer_transcoders_are_refused_by_name_and_by_page():
    registry = get_pretrained_saes_directory()
    clts = {
        (release, sae_id)
        for release, about in registry.items()
        if about.conversion_func == "mntss_clt_layer_transcoder"
        for sae_id in about.saes_map
    }
    assert clts
    refused = {(k.release, k.sae_id) for k in known_saes() if "cross-layer" in k.refused}
    assert refused == clts
    for name in (
        ":".join(min(clts)),
        "gemma-2-2b/0-clt-hp",
        "neuronpedia.org/gemma-2-2b/0-clt-hp/7",
    ):
        with pytest.raises(Mismatch, match="writes to several layers"):
            loading._by_name(name)
    assert all(row["refused"] for row in search_saes("clt-as-per-layer", short={}))
    transcoders = search_saes("mwhanna-qwen3-4b-transcoders", short={})
    assert transcoders
    assert not any(row["refused"] for row in transcoders)


def test_a_site_that_cannot_be_read_is_reported_before_the_download(monkeypatch):
    name = "gemma-scope-2b-pt-transcoders:layer_3/width_16k/average_l0_54"
    (known,) = [k for k in known_saes() if k.name == name]
    assert known.site == "blocks.3.ln2.hook_normalized"
    with pytest.raises(Mismatch, match=rf"{name} .*before its gain.*hook='blocks.3.mlp.hook_in'"):
        open_sae(name)
    assert all("hook=" in row["refused"] for row in search_saes(known.release, short={}))
    requested = []

    def load(release, sae_id, name):
        requested.append((release, sae_id))
        raise Missing("not here")

    monkeypatch.setattr(loading, "_from_release", load)
    with pytest.raises(Missing):
        open_sae(name, hook="blocks.3.mlp.hook_in")
    assert requested == [(known.release, known.sae_id)]


def test_kinds_are_refused_by_name_or_by_the_conversion_of_their_files():
    one = {"id": "layer_3"}
    for release, about in (
        ("some-crosscoder", {}),
        ("some-release", {"conversion_func": "temporal"}),
    ):
        assert _known(release, about, one).refused
    assert _known("some-release", {"conversion_func": "gemma_2"}, one).refused == ""


def test_a_name_with_a_slash_is_read_and_an_empty_one_is_refused(monkeypatch):
    known = by_release("gpt2-small-res-jb/blocks.8.hook_resid_pre")
    assert known.name == "gpt2-small-res-jb:blocks.8.hook_resid_pre"
    assert by_release("gpt2-small-res-jb/nothing") is None
    requested = []
    monkeypatch.setattr(
        loading, "_from_release", lambda *names, name: requested.append((*names, name))
    )
    loading._by_name("gpt2-small-res-jb/blocks.8.hook_resid_pre")
    assert requested == [("gpt2-small-res-jb", "blocks.8.hook_resid_pre", known.name)]
    with pytest.raises(BadInput, match="is empty"):
        loading._by_name(" ")


def test_releases_count_the_saes(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    rows = releases(short={"gpt2-small-res-jb": "gpt2-res-l{L}"})
    counts = {row["release"]: row["saes"] for row in rows}
    assert counts == Counter(one.release for one in known_saes())
    assert rows[0]["release"] == "gpt2-small-res-jb"
    assert rows[0]["short"] == "gpt2-res-l{L}"


def test_unknown_names_do_not_import_sae_lens():
    code = (
        "import sys\n"
        "from atlas.errors import UnknownName\n"
        "from ingest.sae.loading import load_sae\n"
        "for name in ('gpt2-small-res-jb:none', 'no-release:x', 'nothing'):\n"
        "    try: load_sae(name)\n"
        "    except UnknownName: pass\n"
        "assert 'sae_lens' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "words", [[], ["gpt2", "resid_pre"], ["demo"], ["no-such-word"], ["--cached"]]
)
def test_the_command_imports_no_library_that_takes_seconds(words):
    code = (
        "import sys\n"
        "from atlas.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "slow = {'torch', 'sae_lens', 'transformers', 'transformer_lens', 'pandas', 'pyarrow', 'scipy'}\n"
        "assert not slow & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, "saes", *words], check=True, capture_output=True)


def test_the_command_prints_json(capsys):
    with pytest.raises(SystemExit) as done:
        main(["saes", "gemma-scope-2b-pt-res-canonical", "layer_20", "16k", "--json"])
    assert done.value.code == 0
    (row,) = json.loads(capsys.readouterr().out)["result"]
    assert (row["short"], row["width"]) == ("gemmascope-l20", "16k")


@pytest.mark.parametrize(
    ("word", "found"),
    [("tiny", demo_names()), ("demo", demo_names()), ("tiny-b", ["tiny-b-l1-s0"])],
)
def test_demo_saes_are_listed(word, found, capsys):
    with pytest.raises(SystemExit):
        main(["saes", word, "--json"])
    rows = json.loads(capsys.readouterr().out)["result"]
    assert [row["name"] for row in rows] == found
    for row in rows:
        info = open_sae(row["name"]).info
        assert (row["model"], row["site"], row["width"]) == (info.model, info.hook, str(info.d_sae))
    assert set(rows[0]) == set(search_saes("gpt2", short={})[0])


def test_demo_saes_are_no_saes_of_the_cache(capsys):
    with pytest.raises(SystemExit):
        main(["saes", "tiny", "--cached", "--json"])
    assert json.loads(capsys.readouterr().out)["result"] == []


@pytest.mark.parametrize(
    ("words", "site"),
    [
        (["gemmascope-l2"], "20.hook_resid_post"),
        (["gemma-scope-2b-pt-res-canonical:layer_20"], "20.hook_resid_post"),
        (["mwhanna-qwen3-4b"], "9.mlp.hook_in"),
    ],
)
def test_the_site_is_shown_in_80_columns(words, site, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("ingest.sae.commands.on_terminal", lambda: True)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    with pytest.raises(SystemExit):
        main(["saes", *words, "--rows"])
    lines = (capsys.readouterr().out + console.file.getvalue()).splitlines()
    assert any(site in line for line in lines)
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines) <= 80


def test_empty_columns_are_omitted_and_one_sae_has_its_complete_site(capsys):
    with pytest.raises(SystemExit):
        main(["saes", "gpt2-small-res-jb:blocks.8"])
    shown = capsys.readouterr().out
    assert "blocks.8.hook_resid_pre" in shown
    assert "refused" not in shown
    assert "width" not in shown
