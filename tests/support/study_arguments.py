"""Arguments with which the command of every study runs on the small demo."""

#: Arguments of the studies whose command needs some, for two SAEs of the small demo.
ARGUMENTS = {
    "changes": ["tiny-a-l1-s0/7"],
    "concepts": ["gender", "tiny-a-l1-s0", "--repeats", "2"],
    "residual": [
        *("--model", "tiny-a", "--to", "blocks.1.hook_resid_post", "--tokens", "8000"),
        *("--d-sae", "64", "--k", "4", "--draws", "1", "--batch", "256"),
    ],
    "match-graphs": ["tiny-a-l1-s0", "tiny-a-l1-s1"],
    "splitting": ["tiny-a-l1-s0", "tiny-a-l1-s1"],
    "steer": ["--feature", "tiny-a-l1-s0/7", "--prompt", "Once"],
}


#: Studies that may need what is not installed or not in the small demo: an extra, a model.
MAY_NEED_INPUTS = ("topology", "transcoder")
