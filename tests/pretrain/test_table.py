"""Tables as text."""

import pytest
from gfm_pretrain.table import markdown_table, text_table


def test_text_is_set_left_and_numbers_right() -> None:
    assert text_table(("head", "n"), [("rmd17", 1000), ("a", 20)]) == (
        "head      n\n-----  ----\nrmd17  1000\na        20"
    )


def test_numbers_with_commas_and_gaps_are_numbers() -> None:
    assert text_table(("n",), [("1,000",), ("-",)]).splitlines()[-1] == "    -"


def test_table_without_rows_is_its_header() -> None:
    assert text_table(("a", "bc"), []) == "a  bc\n-  --"


def test_markdown() -> None:
    assert markdown_table(("a", "b"), [(1, "x|y\nz")]) == (
        "| a | b |\n| --- | --- |\n| 1 | x\\|y z |"
    )


@pytest.mark.parametrize("table", [text_table, markdown_table])
def test_row_of_a_wrong_length(table) -> None:
    with pytest.raises(ValueError, match="2 cells, got 1"):
        table(("a", "b"), [(1,)])
