"""Examples are shown with their peak token marked."""

from atlas.cli.query_arguments import marked


def test_the_peak_is_marked_and_its_columns_are_removed():
    row = {
        "rank": 0,
        "text": "a cat sat",
        "tokens": ["a", " cat", " sat"],
        "peak": 1,
        "activations": [0.0, 2.0, 0.0],
    }
    assert marked(row) == {"rank": 0, "text": "a[[ cat]] sat"}


def test_the_first_and_the_last_token_can_be_marked():
    assert marked({"text": "ab", "tokens": ["a", "b"], "peak": 0}) == {"text": "[[a]]b"}
    assert marked({"text": "ab", "tokens": ["a", "b"], "peak": 1}) == {"text": "a[[b]]"}


def test_other_rows_are_unchanged():
    for row in ({"text": "x"}, {"tokens": None, "text": None, "peak": None}, {}):
        assert marked(row) == row
