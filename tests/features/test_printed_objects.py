"""``print`` of an atlas, an SAE, a card and a result: as on a terminal of 80 columns; ``repr``: one line."""

import re

import pyarrow as pa
import pytest
from random_models import random_model, small_tokenizer
from small_ingest import texts, topk

import analysis
from atlas import Atlas
from atlas.cli.main import main
from atlas.cli.output.drawn_text import drawn_text, is_drawing
from atlas.features.card_screen import print_card
from atlas.studies.results import Result, Results
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings

ANSI = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "\x1b[31m\u202e\n<b>"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return an atlas of the SAEs a and b and a floor of a."""
    folder = tmp_path_factory.mktemp("printed")
    random_model("llama").save_pretrained(folder / "model")
    small_tokenizer(vocabulary=80).save_pretrained(folder / "model")
    saes = [open_sae(topk(seed=seed), name=name) for seed, name in enumerate("ab")]
    ingest(folder / "x.atlas", saes=saes, text=texts(60), model=str(folder / "model"))
    floor = open_sae(topk(seed=5), name="a-frozen")
    settings = Settings(role="frozen-decoder", floor_of="a")
    model = str(folder / "model")
    ingest(folder / "x.atlas", saes=[floor], model=model, settings=settings, match=None)
    return folder / "x.atlas"


@pytest.fixture
def opened(path):
    with Atlas(path) as atlas:
        yield atlas


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Return a function that runs a command as on a colour terminal of 80 columns, for its lines."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def lines(*words):
        with pytest.raises(SystemExit) as done:
            main(list(words))
        out = capsys.readouterr().out
        assert done.value.code == 0, out
        return [line.rstrip() for line in ANSI.sub("", out).splitlines()]

    return lines


def test_a_card_is_printed_as_by_atlas_show(opened, terminal):
    printed = str(opened["a/3"]).splitlines()
    shown = terminal("show", "a/3", "--atlas", opened.url, "-q")
    end = next(i for i, line in enumerate(shown) if line.startswith("Not stored (--rows"))
    assert end > 10
    examples = "Examples (in brackets: sampled token, with its activation"
    assert [line for line in printed[:end] if not line.startswith(examples)] == [
        line for line in shown[:end] if not line.startswith((examples, "activation):"))
    ]
    assert f"{examples}):" in printed
    assert printed[end].startswith("Not stored (`card.empty` has the commands): ")
    assert max(map(len, printed)) <= 80


def test_printed_text_has_no_colours_and_does_not_depend_on_the_terminal(
    opened, terminal, monkeypatch, capsys
):
    card = opened["a/3"]
    on_colours = str(card)
    for name in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name)
    assert str(card) == on_colours
    monkeypatch.setenv("COLUMNS", "200")
    assert str(card) == on_colours
    assert "\x1b" not in on_colours
    assert capsys.readouterr() == ("", "")
    print_card(card)  # the next output is printed again
    assert capsys.readouterr().out


def test_an_atlas_is_printed_with_its_text_saes_and_studies(opened, terminal):
    analysis.activation_by_position(opened.url, ["a"], settings=analysis.PositionSettings(draws=2))
    printed = str(Atlas(opened.url)).splitlines()
    assert "(60 documents, " in " ".join(printed[:2])
    listed = [line for line in terminal("list", "--atlas", opened.url, "-q") if line]
    start = printed.index(listed[0])
    assert listed[0] == "3 SAEs of 1 model, 1 floor among them."
    assert printed[start : start + len(listed)] == listed
    assert printed[-1] == "Stored results: match (1), positions (1)."
    assert max(map(len, printed)) <= 80


def test_an_sae_is_printed_with_its_numbers_and_those_of_its_floor(opened):
    text = str(opened["a"])
    rows = {name: opened[name].properties for name in ("a", "a-frozen")}
    first, *_ = text.splitlines()
    assert first.startswith(f"a: {rows['a']['d_sae']} features at {rows['a']['hook']} of ")
    assert f"On {rows['a']['tokens']:,} tokens: l0 {rows['a']['l0']:.3g}" in text
    assert "Its floor a-frozen (frozen-decoder): l0 " in text
    assert f"fvu {rows['a-frozen']['fvu']:.3g}" in text.replace("\n", " ")
    assert "Matched with: b." in text
    assert "a floor of a)" in str(opened["a-frozen"]).replace("\n", " ")
    assert len(text.splitlines()) <= 12


def test_results_are_printed_with_verdict_and_table(opened):
    settings = analysis.PositionSettings(draws=2)
    results = analysis.activation_by_position(opened.url, ["a", "b"], settings=settings)
    one = results[0]
    printed = str(one)
    assert printed.replace("\n", " ").startswith(one.verdict[0])
    assert "\nsae " in printed
    rows = one.table("positions").num_rows
    assert f"\npositions ({rows} rows)\n" in printed
    assert "Complete tables: `.to_pandas('positions')`." in printed
    assert str(results[:1]) == printed
    both = str(results)
    for result in results:
        assert result.verdict[0].split(", ")[0] in both.replace("\n", " ")
    for text in (printed, both):
        assert max(map(len, text.splitlines())) <= 80
    assert str(Results()) == "No results."


def test_the_first_table_has_the_ends_of_edges_and_what_is_equal_in_all_rows():
    """A table of one row is skipped, since the summary has its numbers."""
    edges = pa.table(
        {
            "source": [f"a/{i}" for i in range(12)],
            "target": [f"b/{i}" for i in range(12)],
            "kind": ["active"] * 12,
            "empty": pa.nulls(12, pa.float64()),
            "many": [[1, 2]] * 12,
            "balanced_accuracy": [i / 12 for i in range(12)],
            "token_ceiling": [i / 13 for i in range(12)],
            "control": [i / 14 for i in range(12)],
            **{f"other number {i}": list(range(12)) for i in range(12)},
        }
    )
    tables = {"SAE": edges.slice(0, 1), "EDGES": edges}
    printed = str(Result("edges", "a+b", {"n": 12}, tables=(tables, tables.__getitem__)))
    assert "EDGES (10 of 12 rows)" in printed
    assert "SAE (" not in printed
    assert {"a/3", "b/3"} <= set(printed.split())
    assert "a/10" not in printed
    assert "In all rows: kind active." in printed
    header = printed[printed.index("EDGES") : printed.index("a/0")]
    assert {"accuracy", "ceiling", "control"} <= set(header.split())
    assert "many" not in printed
    assert "empty" not in printed


def test_every_repr_is_one_line_without_control_characters(opened):
    result = Result("count", HOSTILE, {"n": 1}, verdict=[HOSTILE])
    card = opened["a/3"]
    objects = [opened, opened["a"], card, result, Results([result] * 9), Results()]
    for one in objects:
        assert len(repr(one).splitlines()) == 1
        assert "\x1b" not in repr(one) + str(one)
        assert "\u202e" not in repr(one) + str(one)
    assert repr(card).startswith("<feature a/3: active on ")
    assert repr(Results([result] * 9)).startswith("<9 results of count: ")


def test_suggestions_of_ipython_are_public_names_and_keys(opened):
    from IPython.core.completer import IPCompleter, provisionalcompleter
    from IPython.core.interactiveshell import InteractiveShell

    result = Result("count", "x", {"n": 1, "share": 0.5})
    space = {"atlas": opened, "sae": opened["a"], "card": opened["a/3"], "result": result}
    completer = IPCompleter(shell=InteractiveShell(), namespace=space)
    with provisionalcompleter():
        found = {
            text: {one.text.strip(".'\"") for one in completer.completions(text, len(text))}
            for text in ("atlas.", "sae.", "card.", 'atlas["', 'result["')
        }
    for name in ("atlas", "sae", "card"):
        assert found[f"{name}."] == {each for each in dir(space[name]) if not each.startswith("_")}
    assert found['atlas["'] == {"a", "b", "a-frozen"}
    assert found['result["'] == {"n", "share"}


def test_nothing_is_drawn_after_an_error():
    with pytest.raises(ZeroDivisionError):
        drawn_text(lambda: 1 / 0)
    assert not is_drawing()
