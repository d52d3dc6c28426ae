"""Predictions rest on an older table: the anchors say how the machine's pace has changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nas.meters import CostTable
from nas.passes import Artefacts
from nas.passes.profile import Profile


def _slower(table: CostTable, factor: float) -> CostTable:
    return CostTable.of(
        (
            key,
            phase,
            one.model_copy(update={"samples_ms": tuple(factor * s for s in one.samples_ms)}),
        )
        for key, row in table.entries.items()
        for phase, one in row.items()
    )


def test_the_pace_is_the_anchors_time_over_the_tables(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts()
    same = Profile(anchors=view.costs)
    slower = Profile(anchors=_slower(view.costs, 1.25))
    for phase in view.costs.phases:
        assert same.pace(view.context, view.costs, phase) == pytest.approx(1.0)
        assert slower.pace(view.context, view.costs, phase) == pytest.approx(1.25)


def test_without_anchors_there_is_no_pace(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts()
    assert view.measured == Profile()
    assert view.measured.pace(view.context, view.costs, "prefill") is None
