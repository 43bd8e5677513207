"""Amounts in sentences: singular and plural, bytes, and ranges."""

import pytest

from atlas.amounts import Share, byte_size, cell_text, counted, span


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 SAEs"), (1, "1 SAE"), (2, "2 SAEs"), (1200, "1,200 SAEs")]
)
def test_numbers_with_their_noun(number, text):
    assert counted(number, "SAE") == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "less than 1 MiB"),
        (2**19 - 1, "less than 1 MiB"),
        (2**20, "1 MiB"),
        (1000 * 2**20, "1,000 MiB"),
        (2**30, "1.0 GiB"),
        (3 * 2**40, "3,072.0 GiB"),
    ],
)
def test_bytes_are_never_0_mib(number, text):
    assert byte_size(number) == text


def test_equal_values_are_one_number():
    assert span([8.0]) == span([8.1, 7.9]) == "8"
    assert span([7.0, 9.0, 8.0]) == "7 to 9"
    assert span([0.26, 0.28], digits=2) == "0.26 to 0.28"


@pytest.mark.parametrize("name", ["idx", "f.idx", "seed", "number", "position", "example_index"])
def test_labels_have_no_separators(name):
    assert cell_text(16384, name) == "16384"


@pytest.mark.parametrize("name", ["", "tokens", "numbers", "seeds", "positions"])
def test_amounts_have_separators(name):
    assert cell_text(16384, name) == "16,384"


@pytest.mark.parametrize(
    "name", ["p", "q", "effect_q", "p swapped", "frequency_p", "p_max", "L0 p"]
)
def test_small_p_and_q_are_bounded(name):
    assert cell_text(4e-5, name) == "<.001"
    assert cell_text(0.04, name) == "0.04"


@pytest.mark.parametrize("name", ["", "l0", "top", "kl", "q<=.05"])
def test_other_small_numbers_are_printed(name):
    assert cell_text(4e-5, name) == "4e-05"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0%"),
        (0.00195, "0.195%"),
        (0.0892, "8.92%"),
        (1.0, "100%"),
        (1.5, "150%"),
        (-0.25, "-25%"),
    ],
)
def test_shares_are_percent(value, text):
    assert cell_text(value, "dead_share") == cell_text(value, "frequency") == text


@pytest.mark.parametrize(
    "name",
    [
        *(
            "share",
            "share_a",
            "rate",
            "rate_b",
            "rate_before",
            "t.rate",
            "f.frequency",
            "min_frequency",
        ),
        *("hits", "hits_control", "p_at_most_0.05", "context_dependence", "coverage_null"),
        *(
            "edge_precision",
            "edge_chance",
            "share in communities of 3 or more",
            "active_positive",
            "parent_given_child",
        ),
    ],
)
def test_shares_and_their_controls_have_one_format(name):
    assert cell_text(0.25, name) == "25%"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "log frequency",
            "the same with log frequency",
            "learning rate",
            "learning_rate",
            "shares",
        ),
        *("frequency_null", "frequency_p", "precisions", "recall@1", "chance", "generate"),
    ],
)
def test_other_numbers_are_no_percent(name):
    assert cell_text(0.25, name) == "0.25"


def test_a_share_is_percent_in_a_column_of_other_numbers():
    assert [cell_text(one, "value") for one in (Share(0.5628), 0.5628, Share("nan"))] == [
        "56.3%",
        "0.563",
        "nan",
    ]


def test_numbers_below_1000_have_no_exponent():
    for value, text in ((999.4, "999"), (999.5, "1,000"), (999.99, "1,000"), (-999.7, "-1,000")):
        assert cell_text(value) == text
