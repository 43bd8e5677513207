"""Cells of reports: counts are whole numbers, and other numbers below 1,000 have three decimals."""

import pytest

from analysis.report_page import Mean, cell


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (314.0, "314"),
        (13.5, "13.500"),
        (2.0, "2.000"),
        (0.0, "0.000"),
        (2_304.0, "2,304"),
        (1_234.56, "1,235"),
        (0.00012, "0.00012"),
        (16_384, "16,384"),
        (True, "yes"),
        (None, "–"),
        (float("nan"), "–"),
        (Mean(0.5, 0.25, 0.75), "0.500 (0.250 to 0.750)"),
        (Mean(0.5, None, 0.75), "0.500"),
    ],
)
def test_values_as_text(value, text):
    assert cell(value) == text
