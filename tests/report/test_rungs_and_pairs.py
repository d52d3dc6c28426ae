"""What stopped at a rung, and what pairs gained, can be read from a finished run."""

from __future__ import annotations

import pytest
from rich.console import Console

from nas.readers._show import show_tables
from nas.report import SlotSummary, Summary
from nas.report._words import additivity
from tests.report.example_summary import example_summary


@pytest.fixture
def summary() -> Summary:
    return example_summary()


def _text(slot: SlotSummary) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        for part in show_tables(slot):
            console.print(part)
    return captured.get()


def test_the_reason_stands_beside_the_block_that_stopped(summary: Summary) -> None:
    slot = summary.slots[0]
    assert "stopped" not in _text(slot)
    why = "step 3 of 12: dominated by kv1"
    changed = slot.options[-1].model_copy(update={"stopped": why})
    slot = slot.model_copy(update={"options": (*slot.options[:-1], changed)})
    (line,) = [line for line in _text(slot).splitlines() if why in line]
    assert changed.variant in line


def test_what_pairs_gained_is_said_where_it_was_kept(summary: Summary) -> None:
    assert "pairs" not in additivity(summary)
    said = _said(summary, coupled_nats=0.97)
    assert said.endswith("Trained in pairs, they lose 0.970. Refitted, they lose 0.861.")


def test_what_pairs_gained_is_said_without_a_refit(summary: Summary) -> None:
    said = _said(summary, coupled_nats=0.97, refitted_nats=None, kept=False)
    assert said.endswith("on the scoring text. Trained in pairs, they lose 0.970.")
    said = _said(summary, coupled_nats=None, refitted_nats=None, kept=False)
    assert said.endswith("Training in pairs gained nothing and was not kept.")


def _said(summary: Summary, **changed: object) -> str:
    refit = summary.student.refit
    assert refit is not None
    student = summary.student.model_copy(update={"refit": refit.model_copy(update=changed)})
    models = tuple(student if m == summary.student else m for m in summary.models)
    return additivity(summary.model_copy(update={"models": models}))
