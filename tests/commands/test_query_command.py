"""``atlas query``: the list by topic, the search, the help of a question, and its parameters."""

import json
import os
import re

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner
from small_graph import small_graph

import queries
from atlas import Atlas, schema
from atlas.cli.main import command
from atlas.cli.query_arguments import list_questions
from atlas.cli.query_command import example_of
from atlas.errors import UnknownName
from atlas.features.sections import SECTIONS
from atlas.missing_studies import missing_studies, remarks_on
from atlas.named_queries import Question, named
from atlas.plugins import study_commands
from atlas.stores.cypher_names import names_in
from atlas.stores.kuzu.store import KuzuStore
from queries.record import OTHER, TOPICS, parse


def run(*words):
    return CliRunner().invoke(command(), [str(word) for word in words], prog_name="atlas")


def test_every_query_has_a_topic_and_every_topic_queries():
    used = {query.topic for query in queries.every()}
    assert used == set(TOPICS) - {OTHER}


def test_an_unknown_topic_is_refused():
    text = "// title: T\n// question: Q?\n// topic: Weather\nRETURN 1 AS n\n"
    with pytest.raises(ValueError, match="Weather"):
        parse("q", text)
    assert parse("q", text.replace("// topic: Weather\n", "")).topic == OTHER


def test_the_list_is_by_topic_and_in_a_pipe_has_the_questions():
    done = run("query")
    lines = done.stdout.splitlines()
    headings = [line for line in lines if not line.startswith(" ")]
    assert headings == [t for t in TOPICS if t != OTHER]
    for query in queries.every():
        assert f"  {query.name}" in lines
        assert f"      {query.question}" in lines


def test_a_word_lists_the_queries_that_contain_it():
    found = json.loads(run("query", "counterpart", "--json").stdout)["result"]
    names = {row["name"] for row in found}
    assert {"counterparts_of_feature", "comparisons_of_saes"} <= names
    assert "dead_features" not in names
    for row in found:
        query = queries.get(row["name"])
        text = f"{query.name} {query.title} {query.question} {query.topic}"
        assert "counterpart" in text.lower()
    two = json.loads(run("query", "counterpart", "COMMUNITY", "--json").stdout)["result"]
    assert [row["name"] for row in two] == ["counterpart_of_community"]


def test_an_unknown_query_with_an_option_is_named_with_the_nearest():
    done = run("query", "counterpart_of_feature", "--feature", "x/1")
    assert isinstance(done.exception, UnknownName)
    assert "counterpart_of_feature" in str(done.exception)
    assert "counterparts_of_feature" in str(done.exception)
    done = run("query", "counterparts_of_feature", "--fature", "x/1")
    assert "No such option" in done.output


def test_an_answer_as_long_as_its_limit_states_the_limit(demo):
    words = ("query", "most_frequent_features", "--sae", "tiny-a-l1-s0", "-a", demo, "--limit")
    assert "1 row, the limit of the query; increase --limit for more" in run(*words, "1").stderr
    assert "the limit of the query" not in run(*words, "1000").stderr


def test_queries_by_a_token_remark_that_few_tokens_of_a_feature_are_stored(demo):
    stored = "Only the 20 most frequent tokens of each feature are stored"
    for words in (
        ["features_of_token", "--token", " dog"],
        ["features_of_tokens", "--tokens", "x"],
    ):
        assert stored in " ".join(run("query", *words, "-a", str(demo)).stderr.split())
    words = ["tokens_of_feature", "--feature", "tiny-a-l1-s0/7", "-a", str(demo)]
    assert stored not in " ".join(run("query", *words).stderr.split())


def test_words_that_are_no_stored_token_are_named_with_the_nearest(demo):
    def remark(*words):
        text = " ".join(run("query", *words, "-a", str(demo)).stderr.split())
        found = re.search(r"Not among the stored tokens: (.*?)\. A word may be rare", text)
        return found and found[1]

    with Atlas.open(demo) as atlas:
        texts = set(atlas.table("Token")["text"].to_pylist())
        assert {" dog", " saw"} <= texts
        assert not {"dog", "Dog", "zzz", " zzz"} & texts
        question = {"tokens": ["dog", " saw"], "min_active": 1, "limit": 1}
        with pytest.warns(UserWarning, match="stored tokens: 'dog' .the nearest is ' dog'."):
            atlas.frame("features_of_tokens", **question)
    assert remark("features_of_tokens", "--tokens", "dog saw") is None
    assert (
        remark("features_of_tokens", "--tokens", "dog Dgo zzz")
        == "'Dgo' (the nearest is ' dog'), 'zzz'"
    )
    assert remark("features_of_token", "--token", "dog") == "'dog' (the nearest is ' dog')"
    assert remark("features_of_token", "--token", " dog") is None
    seven = remark("features_of_tokens", "--tokens", "z1 z2 z3 z4 z5 z6 z7")
    assert seven == "'z1', 'z2', 'z3', 'z4', 'z5' and 2 more"


def test_a_frame_warns_of_a_study_that_never_ran_and_of_a_default_limit(demo):
    with Atlas.open(demo) as atlas:
        with pytest.warns(UserWarning, match="No PROMOTES edges are stored: run `atlas logits A`"):
            assert atlas.frame("features_that_promote_token", token=" dog").empty
        with pytest.warns(UserWarning, match="20 rows, the limit of the query"):
            assert len(atlas.frame("most_frequent_features", sae="tiny-a-l1-s0")) == 20
        assert len(atlas.frame("most_frequent_features", sae="tiny-a-l1-s0", limit=3)) == 3


def test_an_unknown_word_is_an_error():
    done = run("query", "feature_crad")
    assert "feature_card" in str(done.exception)
    done = run("query", "counterpart", "--param", "limit=3")
    assert "counterpart" in str(done.exception)


@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_the_help_of_a_query_has_its_question_parameters_columns_and_an_example(query):
    done = run("query", query.name, "--help")
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    assert query.question.replace(" ", "") in "".join(done.stdout.split())
    for parameter in query.parameters:
        assert f" --{parameter.name.replace('_', '-')} " in text
    for column in query.columns:
        line = f"{column.name}{column.meaning}({column.type})"
        assert line.replace(" ", "") in text.replace(" ", "")
    assert example_of(query) in text
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "atlas query" not in line)


def test_names_of_parameters_differ_from_other_options():
    own = {o for p in command().commands["query"].params for o in p.opts}
    for query in queries.every():
        assert not {f"--{p.name}" for p in query.parameters} & own


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Write an atlas without results of studies."""
    path = tmp_path_factory.mktemp("demo") / "d.atlas"
    text = path.with_name("t.txt")
    text.write_text("He saw the big dog. She saw the big dog. The dog saw him and her. " * 9)
    words = ("ingest", "--sae", "tiny-a-l1-s0", "--text", str(text), "-a", str(path), "-q")
    assert run(*words).exit_code == 0
    return path


def rows(*words):
    done = run("query", *words, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)["result"]


def test_parameters_are_options(demo):
    plain = rows("tokens_of_feature", "-p", "feature=tiny-a-l1-s0/5", "-p", "limit=2", "-a", demo)
    option = ("--feature", "tiny-a-l1-s0/5", "--limit", "2")
    assert rows("tokens_of_feature", *option, "-a", str(demo)) == plain
    assert rows(*option, "-a", str(demo), "tokens_of_feature") == plain
    twice = run("query", "tokens_of_feature", *option, "-p", "limit=3", "-a", str(demo))
    assert "twice" in str(twice.exception)


def test_options_have_hyphens_and_accept_the_names_in_cypher(demo):
    assert "--sae-a SAE" in run("query", "matches_beyond_token", "--help").stdout
    assert "--sae_a" not in run("query", "matches_beyond_token", "--help").stdout
    same = [
        rows("features_of_tokens", "--tokens", "x", option, "3", "-a", str(demo))
        for option in ("--min-active", "--min_active")
    ]
    assert same[0] == same[1]


def test_a_list_of_tokens_is_written_as_words_or_repeated(demo):
    exact = rows("features_of_tokens", "-p", 'tokens=[" dog","dog"," big","big"]', "-a", demo)
    assert exact
    for words in (
        ("--tokens", "dog big"),
        ("--tokens", "dog, big"),
        ("--tokens", "dog", "--tokens", "big"),
        ("--tokens", '[" dog", "dog", " big", "big"]'),
        ("--tokens", "␣dog dog ␣big big"),
        ("--tokens", '["␣dog", "dog", "␣big", "big"]'),
        ("-p", 'tokens=["␣dog","dog","␣big","big"]'),
    ):
        assert rows("features_of_tokens", *words, "-a", str(demo)) == exact
    one = rows("features_of_tokens", "--tokens", " dog", "-a", str(demo))
    assert one == rows("features_of_tokens", "-p", 'tokens=[" dog"]', "-a", str(demo))
    assert one == rows("features_of_tokens", "--tokens", "␣dog", "-a", str(demo))


def test_a_token_can_be_pasted_from_a_table(demo):
    exact = rows("features_of_token", "--token", " dog", "-a", str(demo))
    assert exact
    assert rows("features_of_token", "--token", "␣dog", "-a", str(demo)) == exact
    assert rows("features_of_token", "-p", "token=␣dog", "-a", str(demo)) == exact


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("promoted_tokens", "--feature", "tiny-a-l1-s0/5"), "No PROMOTES edges are stored: run `atlas logits tiny-a-l1-s0`."),
        (("comparisons_of_saes",), "stored: run `atlas match A B`, where A and B are names of SAEs."),
        (("--cypher", "MATCH (f:Feature) WHERE f.community = 3 RETURN f.id"), "run `atlas communities A`, where A is the name of an SAE."),
        (("features_of_token", "--token", "zzz"), "Not among the stored tokens: 'zzz'."),
    ],
)  # fmt: skip
def test_no_rows_name_the_study_that_never_ran(demo, words, sentence):
    done = run("query", *words, "-a", str(demo))
    assert done.exit_code == 0
    assert "0 rows" in done.stderr
    assert sentence in done.stderr


def test_only_tables_without_rows_are_reported_as_missing(tmp_path):
    graph = small_graph()
    with_rows = {name for name, table in graph.tables.items() if table.num_rows}
    store = KuzuStore.open(tmp_path / "g.kuzu", graph=lambda: graph)
    for query in queries.every():
        named = {name for _, name in names_in(query.cypher).tables}
        empty = [s for s in missing_studies(store, query.cypher) if "has a value" not in s]
        assert bool(empty) == bool(named - with_rows), query.name
    store.close()


def test_every_kind_that_fills_the_graph_has_a_command():
    by_ingest = {"", "sae", "statistics", "tokens", "examples", "coactivation", "fidelity"}
    kinds = {owner for table in schema.TABLES for owner in schema.owners(table)}
    studies = study_commands()
    assert kinds - by_ingest <= set(studies)
    for section in SECTIONS:
        if section.command:
            assert section.command.split()[1] == studies[section.kind].name
    assert [studies[kind].example for kind in ("match", "logits", "concepts", "splitting")] == [
        "atlas match A B",
        "atlas logits A",
        "atlas concepts FILE",
        "atlas splitting NARROW WIDE",
    ]


def completed(words, incomplete=""):
    from click.shell_completion import ShellComplete

    shell = ShellComplete(command(), {}, "atlas", "_ATLAS_COMPLETE")
    return [item.value for item in shell.get_completions(list(words), incomplete)]


def test_the_shell_completes_commands_queries_saes_and_features(demo, monkeypatch):
    monkeypatch.setenv("ATLAS", str(demo))
    assert "query" in completed((), "qu")
    assert completed(("query",), "dead_f") == ["dead_features"]
    assert completed(("query", "dead_features", "--sae"), "tiny") == ["tiny-a-l1-s0"]
    assert "--sae" in completed(("query", "dead_features"), "--s")
    features = completed(("query", "tokens_of_feature", "--feature"), "tiny-a-l1-s0/51")
    assert features == [f"tiny-a-l1-s0/{n}" for n in (51, 510, 511)]
    features = completed(("query", "tokens_of_feature", "--feature"), "ti")
    assert features[:2] == ["tiny-a-l1-s0/0", "tiny-a-l1-s0/1"]
    assert completed(("show",), "tiny-a-l1-s0/509") == ["tiny-a-l1-s0/509"]
    for words in (
        ("match",),
        ("communities",),
        ("plot", "graphs"),
        ("fire", "text", "--sae"),
        ("rm",),
    ):
        assert completed(words, "tiny") == ["tiny-a-l1-s0"], words
    assert completed(("match", "--atlas", "nowhere"), "tiny") == []


def test_completion_without_an_atlas_is_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATLAS", raising=False)
    assert completed(("query", "dead_features", "--sae")) == []
    assert os.listdir(tmp_path) == []


def test_a_search_also_finds_columns_and_examples():
    assert [q.name for q in queries.search("gender")] == ["features_of_concept"]
    columns = {q.name for q in queries.every() if any("floor" in c.meaning for c in q.columns)}
    assert columns <= {q.name for q in queries.search("floor")}
    with pytest.raises(UnknownName, match="Topics: SAEs and sites"):
        list_questions("qqqqqq", as_json=False)
    with pytest.raises(UnknownName, match=r"Nearest: feature_card, .*\. `atlas query WORD`"):
        list_questions("feture_card", as_json=False)


def test_columns_without_an_alias_have_the_heading_of_the_query(tmp_path):
    store = KuzuStore.open(tmp_path / "g.kuzu", graph=small_graph)
    answer = store.query("MATCH (:Feature)-[r]->(:SAE) RETURN label(r), count(*)", {})
    assert answer.column_names == ["label(r)", "count(*)"]
    store.close()


def test_one_remark_on_a_limit_serves_python_and_the_command_line(demo):
    question = named("most_frequent_features", {"sae": "tiny-a-l1-s0", "limit": 2})
    own = Question("MATCH (f:Feature) RETURN f LIMIT $limit", {"limit": 2})
    with Atlas.open(demo) as atlas:
        expected = "2 rows, the limit of the query; increase `limit` for more."
        assert remarks_on(atlas.store, question, 2) == [expected]
        assert remarks_on(atlas.store, question, 1) == []
        assert remarks_on(atlas.store, own, 2) == []


def test_a_space_of_a_token_may_be_written_as_its_mark(demo):
    assert "␣ stands for a space" in " ".join(run("query", "--help").stdout.split())
    words = ("query", "features_of_token", "-a", demo, "--json", "--token")
    marked, plain = (run(*words, token) for token in ("␣dog", " dog"))
    assert json.loads(marked.stdout)["result"] == json.loads(plain.stdout)["result"] != []


def omitted_columns(done):
    """Return the names of the columns that a table on a terminal omits."""
    remark = " ".join(done.stderr.split()).partition("at this width: ")[2].partition(". --wide")[0]
    return remark.split(", ")


@pytest.mark.parametrize(
    "words",
    [
        ("least_frequent_features", "--sae", "tiny-a-l1-s0"),
        ("features_in_frequency_range", "--sae", "tiny-a-l1-s0"),
    ],
)
def test_the_top_token_of_a_feature_is_never_omitted(words, demo, monkeypatch):
    for name, value in (("COLUMNS", "50"), ("FORCE_COLOR", "1"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    done = run("query", *words, "-a", demo)
    assert "Columns omitted" in done.stderr
    assert "top_token" not in omitted_columns(done)
    cells = [line.split() for line in click.unstyle(done.stdout).splitlines()]
    assert any("top_token" in line or "top_" in line for line in cells)  # broken after underscores


@pytest.mark.parametrize(
    "name", ["matches_beyond_token", "matches_of_shared_token", "counterparts_of_sae"]
)
def test_a_correlation_of_matches_is_printed_with_its_null_and_q_at_80_columns(
    name, demo, monkeypatch
):
    typical = {"string": "tiny-a-l1-s0/265", "double": 0.00104, "int64": 4, "bool": True}
    values = {c.name: typical[c.type] for c in queries.get(name).columns}
    values |= {"token_a": " little", "token_b": " careful", "pearson": 0.961}
    values |= {"token_document_null_pearson": 0.932, "token_document_q": 0.0123}
    monkeypatch.setattr(Atlas, "answer", lambda *_, **__: pa.Table.from_pylist([values] * 2))
    for variable, value in (("COLUMNS", "80"), ("FORCE_COLOR", "1"), ("NO_COLOR", "1")):
        monkeypatch.setenv(variable, value)
    done = run("query", name, "--sae-a", "tiny-a-l1-s0", "--sae-b", "other", "-q", "-a", demo)
    assert {"token_b", "q", "token_q"} <= {*omitted_columns(done)}
    row = click.unstyle(done.stdout).splitlines()[-1].split()
    assert row == ["tiny-a-l1-s0/265", "little", "tiny-a-l1-s0/265", "0.961", "0.932", "0.0123"]


ANSWERED = [query for query in queries.every() if query.answer]


@pytest.mark.parametrize("query", ANSWERED, ids=lambda q: q.name)
def test_columns_that_answer_the_question_are_printed_at_80_columns(query, demo, monkeypatch):
    texts = {"sae": "tiny-a-l1-s0", "sae_b": "tiny-a-l1-s1", "verdict": "context"}
    texts |= {"site": "tiny-a/blocks.1.hook_resid_post", "hook": "blocks.1.hook_resid_post"}
    values = {"double": 0.00104, "int64": 1234, "bool": True, "string[]": [" Lily", " Ben"]}
    row = {
        c.name: texts.get(c.name, "tiny-a-l1-s0/265") if c.type == "string" else values[c.type]
        for c in query.columns
    }
    row |= {name: " little" for name in row if name.endswith("token") and type(row[name]) is str}
    monkeypatch.setattr(Atlas, "answer", lambda *_, **__: pa.Table.from_pylist([row] * 2))
    for variable, value in (("COLUMNS", "80"), ("FORCE_COLOR", "1"), ("NO_COLOR", "1")):
        monkeypatch.setenv(variable, value)
    words = [
        word
        for p in query.parameters
        if p.required
        for word in (f"--{p.name}", ",".join(p.example) if type(p.example) is list else p.example)
    ]
    done = run("query", query.name, *map(str, words), "-q", "-a", demo)
    assert not {*query.answer} & {*omitted_columns(done)}


def test_the_quality_of_saes_answers_the_query_of_saes():
    assert queries.get("saes").answer == ("l0", "fvu", "dead_share")
    assert {"one_to_one", "beyond_token"} <= {*queries.get("comparisons_of_saes").answer}


def test_an_answer_is_a_column_of_the_query():
    text = queries.get("saes").text.replace("// answer: l0,", "// answer: zero,")
    with pytest.raises(
        ValueError, match="the line 'answer' expects columns of the answer; got zero"
    ):
        parse("saes", text)


def test_matches_of_a_feature_state_whether_they_are_the_counterpart_at_80_columns(
    demo, monkeypatch
):
    typical = {"string": "tiny-a-l1-wide/265", "double": 0.00104, "int64": 4, "bool": True}
    values = {c.name: typical[c.type] for c in queries.get("counterparts_of_feature").columns}
    monkeypatch.setattr(Atlas, "answer", lambda *_, **__: pa.Table.from_pylist([values] * 2))
    for variable, value in (("COLUMNS", "80"), ("FORCE_COLOR", "1"), ("NO_COLOR", "1")):
        monkeypatch.setenv(variable, value)
    done = run("query", "counterparts_of_feature", "--feature", "a/1", "-q", "-a", demo)
    row = click.unstyle(done.stdout).splitlines()[-1].split()
    assert row[:5] == ["tiny-a-l1-wide/265", "yes", "0.00104", "0.00104", "0.00104"]
    assert not {"one_to_one", "token_document_q"} & {*omitted_columns(done)}


def test_the_p_of_a_counterpart_is_the_one_that_its_q_corrects():
    columns = {c.name: c.meaning for c in queries.get("counterparts_of_feature").columns}
    assert "p" not in columns
    assert "`q`" in columns["p_pooled"]
    assert "`token_document_q`" in columns["token_document_p_pooled"]


def test_columns_of_matches_have_the_names_of_the_schema():
    stored = {p.name for p in schema.edge("MATCHES").properties}
    renamed = [
        (query.name, name)
        for query in queries.every()
        for value, name in re.findall(r"\bm\.(\w+) AS (\w+)", query.cypher)
        if value in stored and ("null" in value or value.endswith("q")) and name != value
    ]
    assert renamed == []
