"""Tables for the terminal, and the numbers in them."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table

from nas.report import Summary, budget_table, summary_table
from nas.report._format import (
    duration,
    file_size,
    fixed,
    like,
    percent,
    ratio,
    signed_percent,
    significant,
    title_of,
)
from tests.report.example_summary import example_summary


def shown(table: Table) -> str:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_summary_table_has_a_row_a_model() -> None:
    text = shown(summary_table(example_summary()))
    lines = [line for line in text.splitlines() if line.startswith("│")]
    names = [line.split("│")[1].strip() for line in lines]
    assert names == ["Teacher", "Student", "Uniform FFN", "Depth cut"]
    student = [part.strip() for part in lines[1].split("│")[2:-1]]
    assert student[1:] == [
        "1.53\u00d7",
        "61.3",
        "1.47\u00d7",
        "88.3",
        "351.2",
        "0.312",
        "23.35",
        "74.4\u202f%",
    ]


def test_summary_table_leaves_out_a_phase_that_was_not_measured() -> None:
    data = dict(example_summary())
    data["models"] = tuple(m.model_copy(update={"latency": ()}) for m in data["models"])
    text = shown(summary_table(Summary.model_validate(data)))
    assert "tok/s" not in text
    assert "23.35" in text


def test_budget_table_keeps_markup_as_text() -> None:
    summary = example_summary()
    budget = summary.budgets[0].model_copy(update={"name": "[red]x", "slack": -2.0})
    text = shown(budget_table(summary.model_copy(update={"budgets": (budget,)})))
    assert "[red]x" in text
    assert "\u22122.00" in text
    assert "would save about" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (fixed(None), "\u2013"),
        (fixed(-0.001), "0.00"),
        (fixed(-12345.678, 1), "\u221212\u202f345.7"),
        (significant(0.09996), "0.100"),
        (significant(134.515), "135"),
        (significant(0), "0"),
        (significant(3e-9), "3.0e\u221209"),
        (like(9.87, 553.2), "9.9"),
        (like(9.87, None), "9.870"),
        (ratio(1.5), "1.50\u00d7"),
        (percent(0.744), "74.4\u202f%"),
        (signed_percent(2.0), "+2.0\u202f%"),
        (signed_percent(-2.31), "\u22122.3\u202f%"),
        (signed_percent(0.01), "0.0\u202f%"),
        (duration(0.83), "0.8\u202fs"),
        (duration(59.7), "1\u202fmin 00\u202fs"),
        (duration(7620), "2\u202fh 07\u202fmin"),
        (file_size(512), "512\u202fB"),
        (file_size(353_812_480), "337.4\u202fMiB"),
        (file_size(5 * 2**30), "5.00\u202fGiB"),
        (title_of("uniform_ffn"), "Uniform FFN"),
    ],
)
def test_numbers_read_as_meant(text: str, expected: str) -> None:
    assert text == expected
