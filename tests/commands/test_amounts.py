"""Amounts in sentences: singular and plural, bytes, and ranges."""

import pytest

from atlas.amounts import byte_size, cell_text, counted, span


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
