"""Pruning leaves out what would not have been chosen, and says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.compiler import compile_run
from nas.errors import ArtifactError
from nas.passes import Artefacts
from nas.passes.build import load_block
from nas.passes.draft import Drafts
from nas.run import RunDirectory

PRUNE = {"keep": 0.5, "trials": 0.3, "calibrate": 6}
BUILD = {"tokens": 960, "epochs": 2, "learning_rate": 3e-3}


def test_at_most_the_share_is_built_and_scored(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(prune=PRUNE, build=BUILD)
    assert 0 < len(view.candidates) <= 0.5 * len(view.space)
    assert set(view.scores) == {c.id for c in view.candidates}
    assert view.solution.status == "proven"
    listing = json.loads(view.context.run.path("prune.json").read_text())
    rows = {row["candidate"]: row for row in listing["candidates"]}
    assert set(rows) == {c.id for c in view.space}
    kept = {c.id for c in view.candidates}
    for name, row in rows.items():
        assert row["kept"] == (name in kept) == (row["reason"] == "")
        assert row["low"] <= row["point"] <= row["high"]
    tried = {name for name, row in rows.items() if row["draft_nats"] is not None}
    assert tried == set(listing["tried"])
    assert 0 < len(tried) <= np.ceil(0.3 * len(rows))
    finished = {name for name, row in rows.items() if row["trained_nats"] is not None}
    assert finished == set(listing["trials"])
    assert len(finished) == 6


def test_blocks_are_the_same_as_without_pruning(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(prune=PRUNE, build=BUILD)
    view.block_keys  # noqa: B018
    run = view.context.run
    folder = lambda c: run.path("library", c.slot.id, c.spec.label, "block.safetensors")  # noqa: E731
    pruned = {c.id: folder(c).read_bytes() for c in view.candidates if folder(c).exists()}
    for record in list(run.path("units", "build").rglob("*.json")):
        record.unlink()
    whole = artefacts(build=BUILD)
    whole.block_keys  # noqa: B018
    assert {c.id: folder(c).read_bytes() for c in view.candidates if c.id in pruned} == pruned


def test_trials_are_not_built_again(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts(prune=PRUNE, build=BUILD)
    view.candidates  # noqa: B018
    made = view.context.run.tally.done["build"]
    assert made == 6
    view.block_keys  # noqa: B018
    trials = set(view.context.run.require("prune/survivors").data["trials"])
    kept = {c.id for c in view.candidates}
    assert view.context.run.tally.done["build"] == made + len(kept - trials)


def test_a_draft_is_the_closed_form_of_the_build(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts()
    drafts = Drafts(view.context)
    drafts.make(view.space[:3])
    assert drafts(view.space[5]) is None
    view.block_keys  # noqa: B018
    for candidate in view.space[:3]:
        found = drafts(candidate)
        assert found is not None
        assert drafts.error(candidate) == found.error
        stored = load_block(
            view.context.run.root, view.context.shape, candidate.slot, candidate.spec
        )
        if stored is None:
            assert found.block is None
            continue
        assert found.block is not None
        for mine, theirs in zip(found.block.parameters(), stored.parameters(), strict=True):
            np.testing.assert_array_equal(mine.detach(), theirs.detach())


@pytest.mark.parametrize("harm", ["lost", "altered"])
@pytest.mark.parametrize("start", [None, "build"])
def test_blocks_of_drafts_that_the_disk_harmed_are_made_to_the_same_bytes(
    harm: str, start: str | None, artefacts: Callable[..., Artefacts], tmp_path: Path
) -> None:
    view = artefacts(prune=PRUNE, build={**BUILD, "epochs": 1})
    config, root = view.context.config, tmp_path / "run"
    compile_run(config, view.context.run, stop="prune")
    copy = Path(shutil.copytree(root, tmp_path / "harmed"))
    compile_run(config, RunDirectory.open(root), stop="build")
    for path in sorted(copy.joinpath("drafts").rglob("*.safetensors")):
        whole = path.read_bytes()
        path.unlink()
        if harm == "altered":
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 64]))

    compile_run(config, RunDirectory.open(copy), start=start, stop="build")

    weights = sorted(p.relative_to(root) for p in root.glob("library/*/*/block.safetensors"))
    assert weights
    for name in weights:
        assert (copy / name).read_bytes() == (root / name).read_bytes(), name
    assert any(e["event"] == "damaged" for e in RunDirectory.open(copy).events())


def test_a_draft_that_was_run_has_its_replace_one_loss(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(prune=PRUNE)  # nothing is trained: a draft is the finished block
    view.candidates  # noqa: B018
    assert "build" not in view.context.run.tally.done
    listing = json.loads(view.context.run.path("prune.json").read_text())
    exact = artefacts().scores
    for row in listing["candidates"]:
        if row["draft_nats"] is not None:
            expected = exact[row["candidate"]].mean()
            assert row["draft_nats"] == pytest.approx(expected, rel=1e-4)
            assert row["low"] == row["point"] == row["high"] == pytest.approx(expected, rel=1e-4)
        else:
            assert row["low"] < row["point"] < row["high"]


def test_another_budget_prunes_anew_but_drafts_and_blocks_stay(
    artefacts: Callable[..., Artefacts],
) -> None:
    first = artefacts(prune=PRUNE, build=BUILD)
    first.scores  # noqa: B018
    second = artefacts(prune=PRUNE, build=BUILD, budgets={"params_m": 0.024})
    second.candidates  # noqa: B018
    done = second.context.run.tally.done
    assert done["prune"] <= 2  # the decision, and the trials that it chose
    closed = artefacts(prune=PRUNE, build=BUILD, budgets={"params_m": 0.0265})
    closed.context.run.closed = frozenset({"space", "measure", "prune"})
    assert closed.candidates == second.candidates  # answered from what is there
    other = artefacts(prune={**PRUNE, "reach": 0.3}, build=BUILD)
    other.context.run.closed = frozenset({"prune"})
    with pytest.raises(ArtifactError, match="run from the pass prune"):
        other.candidates  # noqa: B018
