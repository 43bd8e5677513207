"""What the name of an SAE of sae-lens' registry states: its width, and the site that it reads.

The registry does not list them. sae-lens derives the site from the same parts of a name when it
converts the files.
"""

import re

__all__ = ["site_of", "width_of"]

_HOOK = re.compile(r"blocks\.\d+\.[\w.]*?hook_[a-z]+(?:_[a-z]+)*")
_LAYER = re.compile(r"(?:layer_?|(?<![a-z])l)(\d+)")

#: Sites by a word of the release, id or path, the first that occurs, for each function that
#: converts files whose ids do not name a site; see ``NAMED_PRETRAINED_SAE_LOADERS`` of sae-lens.
_SITES: dict[str, tuple[tuple[str, str], ...]] = {
    "gemma_2": (("-res", "hook_resid_post"), ("-mlp", "hook_mlp_out"), ("-att", "attn.hook_z")),
    "gemma_2_transcoder": (("", "ln2.hook_normalized"),),
    "gemma_3": (
        ("resid_post", "hook_resid_post"),
        ("attn_out", "attn.hook_z"),
        ("mlp_out", "hook_mlp_out"),
        ("transcoder", "mlp.hook_in"),
    ),
    "llama_scope": (
        ("_lxr_", "hook_resid_post"),
        ("_lxm_", "hook_mlp_out"),
        ("_lxa_", "hook_attn_out"),
    ),
    "llama_scope_r1_distill": (("", "hook_resid_post"),),
    "dictionary_learning_1": (("resid_post", "hook_resid_post"),),
    "goodfire": (("", "hook_resid_post"),),
    "qwen_scope": (("", "hook_resid_post"),),
    "mwhanna_transcoder": (("", "mlp.hook_in"),),
}

#: Widths in names, the surest first. A size of a model (70m) or a number of tokens (800m) is none.
_WIDTHS = (
    r"(?:^|[_/-])(?:width[_-]|w-?)(\d+[km])(?![a-z\d])",
    r"width-2pow(\d+)",
    r"-(\d+k)(?:__|$)",
    r"v5[-_](\d+k)",
    r"hook_resid_pre_(\d+)$",
    r"_ds(\d+)_",
    r"_(\d{4,6})(?:[:_]|$)",
)


def site_of(conversion: str, *, release: str, sae_id: str, path: str) -> str:
    """Return the site that an SAE reads; empty if its name does not state it.

    Parameters
    ----------
    conversion
        The function of sae-lens that converts its files; empty for those of sae-lens.
    release, sae_id
        Its name.
    path
        The folder or file of its weights in the repository.

    Examples
    --------
    >>> site_of("llama_scope", release="llama_scope_lxm_8x", sae_id="l3m_8x", path="")
    'blocks.3.hook_mlp_out'
    """
    if found := _HOOK.search(sae_id):
        return found[0].replace(".hook_z", ".attn.hook_z")
    if sae_id.startswith("embedding/"):
        return "hook_embed"
    layer = _LAYER.search(sae_id)
    text = f"{release} {sae_id} {path}"
    hook = next((site for word, site in _SITES.get(conversion, ()) if word in text), "")
    return f"blocks.{layer[1]}.{hook}" if layer and hook else ""


def width_of(*texts: str) -> str:
    """Return the number of features that the first of some texts states, such as ``16k``.

    Parameters
    ----------
    texts
        The id, the release, the id at Neuronpedia, the repository and the path of an SAE.

    Examples
    --------
    >>> width_of("blocks.12.hook_resid_post", "saebench_gemma-2-2b_width-2pow12_date-0108")
    '4k'
    """
    for pattern in _WIDTHS:
        for text in texts:
            if found := re.search(pattern, text, re.IGNORECASE):
                stated = found[1].lower()
                return f"{2 ** int(stated) // 1000}k" if "2pow" in pattern else stated
    return ""
