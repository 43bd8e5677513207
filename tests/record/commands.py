"""How the atlases of a record are built, and which commands read them.

A label names an entry of a record and must not change. If a command is renamed, only its words
change.
"""

ONE, TWO, WIDE = "tiny-a-l1-s0", "tiny-a-l1-s1", "tiny-a-l1-wide"
FIRST, SECOND = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"

# Replacements of the names in the examples and defaults of the queries' parameters, for each atlas.
NAMES: dict[str, dict[str, str]] = {
    "demo": {},
    "tiny": {
        WIDE: "tiny-a-l1-s0-frozen",
        f"tiny-a/{SECOND}": f"tiny-a/{FIRST}",
        "document/active/l2=0.001": "document/active/l2=0.001/features=60/min_positives=5",
    },
    "planted": {
        ONE: "a",
        TWO: "b",
        WIDE: "b",
        "tiny-a/hook_embed": "planted/hook_embed",
        f"tiny-a/{SECOND}": "planted/hook_embed",
        "tiny-a": "planted",
    },
    "residual": {
        ONE: "study-baseline-s0",
        TWO: "study-residual-s0",
        WIDE: "study-token-means-s0",
    },
}

# Commands that build an atlas, by a stable label; an empty command is the Python module's.
_TEXT = ["--text", "{text}"]
_LEIDEN = ["communities", "--all", "--runs", "2", "--splits", "1", "--draws", "2"]
_PROBE = ["--split", "document", "--controls", "1", "--draws", "10", "--min-positives", "5"]
BUILDS: dict[str, dict[str, list[str]]] = {
    "demo": {"demo": ["demo"]},
    "tiny": {
        "ingest": [
            "ingest",
            "--sae",
            ONE,
            "--sae",
            TWO,
            "--sae",
            "tiny-a-l1-s0-frozen",
            "--draws",
            "3",
            *_TEXT,
        ],
        "probe": [
            "probe",
            ONE,
            "--from",
            "hook_embed",
            "--from",
            FIRST,
            *_PROBE,
            "--features",
            "60",
        ],
        "communities": _LEIDEN,
        "transcoder": ["transcoder", "--to", "all", "--folds", "3", "--draws", "20"],
    },
    "planted": {
        "build": [],
        "match": ["match", "--all", "--draws", "5"],
        "communities": _LEIDEN,
    },
    "residual": {
        "residual": [
            "residual",
            "--model",
            "tiny-a",
            "--to",
            SECOND,
            *_TEXT,
            "--d-sae",
            "64",
            "--k",
            "4",
            "--draws",
            "1",
            "--train-tokens",
            "30000",
            "--name",
            "study",
        ],
        "transcoder": ["transcoder", "--to", SECOND, "--folds", "3", "--draws", "20"],
    },
}

# Commands that only read, by a stable label: the atlases they are for, and their words. ``{a}``
# and ``{b}`` are SAEs of the atlas, ``{out}`` is a new folder whose files are recorded too.
ALL, SMALL, PAIRS = tuple(NAMES), ("tiny", "planted", "residual"), ("tiny", "planted")
COMMANDS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "list": (ALL, ["list"]),
    "doctor": (ALL, ["doctor"]),
    "probes": (("demo", "tiny", "residual"), ["probe-scores"]),
    "probes by frequency": (("demo", "tiny"), ["probe-scores", "--by", "frequency"]),
    "probes by first layer": (("tiny",), ["probe-scores", "--by", "first-layer"]),
    "probes by sweep": (("tiny",), ["probe-scores", "--by", "sweep"]),
    "stats": (ALL, ["graph-stats", "{a}", "--nulls", "none"]),
    "stats of two, nulls": (("planted",), ["graph-stats", "--all", "--draws", "2", "--curves"]),
    "communities": (PAIRS, [*_LEIDEN, "--top", "20"]),
    "compare": (
        ("planted",),
        [
            "compare-graphs",
            "{a}",
            "{b}",
            "--draws",
            "5",
            "--halves",
            "1",
            "--out",
            "{out}/alike.svg",
        ],
    ),
    "counterparts": (
        ("planted",),
        [
            "match-graphs",
            "{a}",
            "{b}",
            "--anchor",
            "0.1",
            "--repeats",
            "1",
            "--draws",
            "3",
            "--out",
            "{out}/recall.svg",
        ],
    ),
    "query list": (("planted",), ["query"]),
    "query cypher": (
        ALL,
        [
            "query",
            "--timeout",
            "600",
            "--cypher",
            "MATCH (f:Feature) WHERE f.dead RETURN f.sae AS sae, count(f) AS dead ORDER BY sae",
        ],
    ),
    "query cypher that writes": (("planted",), ["query", "--cypher", "CREATE (f:Feature)"]),
    "query of no such name": (("planted",), ["query", "no_such_query"]),
    "query of no such SAE": (("planted",), ["query", "sae_summary", "-p", "sae=none"]),
    "export parquet": (ALL, ["export", "{out}/tables"]),
    "export csv": (SMALL, ["export", "{out}/tables", "--format", "csv"]),
    "export graphml": (PAIRS, ["export", "{out}/graphs", "--format", "graphml"]),
    "export gexf": (("planted",), ["export", "{out}/graphs", "--format", "gexf"]),
    "export neo4j-admin": (SMALL, ["export", "{out}/import", "--for", "neo4j-admin"]),
    "plot probes": (("tiny",), ["plot", "probes", "--out", "{out}/probes.svg"]),
    "plot communities": (PAIRS, ["plot", "communities", "{a}", "--out", "{out}/map.svg"]),
    "plot graphs": (PAIRS, ["plot", "graphs", "--out", "{out}/graphs.svg"]),
    "report geometry": (
        ("residual",),
        [
            "report",
            "geometry",
            "--out",
            "{out}/report.html",
            "--figures",
            "{out}/figures",
            "--format",
            "svg",
        ],
    ),
}
