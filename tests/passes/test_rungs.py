"""Training in rungs: who stops stays as it is, who goes on is the same as without."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nas.compiler import compile_run
from nas.config import RunConfig
from nas.errors import ConfigError
from nas.executors import ProcessPool
from nas.ir import Candidate, GatedFeedForward, Slot
from nas.passes import Artefacts, PassContext
from nas.passes.activations import slot_activations
from nas.passes.build import block_keys, build, closed_forms
from nas.passes.distill_blocks import cosine
from nas.passes.prune import _lines
from nas.pruning import RungJudge, SlotOutlook
from nas.run import RunDirectory
from tests.chaos.harness import contents

PRUNE = {"keep": 0.9, "trials": 0.3, "calibrate": 4, "draws": 2}
BUILD = {"tokens": 960, "epochs": 4, "batch_tokens": 96, "learning_rate": 3e-3}
RUNGS = {**BUILD, "rungs": 3, "rung_factor": 2.0}


@pytest.fixture
def stops_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that stops everything but linear maps at the second rung."""

    def after(self: RungJudge, rung: int, left: dict[str, float]) -> dict[str, str]:
        return {name: "told to" for name in left if rung == 1 and name != "linear"}

    monkeypatch.setattr(RungJudge, "after", after)


def _meta(view: Artefacts, candidate: Candidate) -> dict[str, object]:
    folder = view.context.block_folder(candidate.slot.id, candidate.spec.label)
    return json.loads((folder / "meta.json").read_text())


def _weights(view: Artefacts, candidate: Candidate) -> bytes | None:
    folder = view.context.block_folder(candidate.slot.id, candidate.spec.label)
    path = folder / "block.safetensors"
    return path.read_bytes() if path.is_file() else None


def _stopped(view: Artefacts) -> list[Candidate]:
    return [c for c in view.candidates if _meta(view, c)["stopped"] is not None]


def test_those_that_go_on_are_the_same_bytes_as_without_rungs(
    artefacts: Callable[..., Artefacts], stops_most: None
) -> None:
    view = artefacts(prune=PRUNE, build=RUNGS, baselines=[])
    keys = view.block_keys
    stopped = _stopped(view)
    assert stopped
    found = {c: _weights(view, c) for c in view.candidates}
    finished = block_keys(view.context, view.candidates)
    assert {c.id for c in stopped} == {n for n, key in keys.items() if key != finished.get(n, key)}
    for record in list(view.context.run.path("units", "build").rglob("*.json")):
        record.unlink()
    whole = artefacts(prune=PRUNE, build=BUILD, baselines=[])
    whole.block_keys  # noqa: B018
    for candidate, weights in found.items():
        if candidate in whole.candidates and candidate not in stopped:
            assert _weights(whole, candidate) == weights


def test_a_stopped_block_is_where_the_schedule_was(
    artefacts: Callable[..., Artefacts], stops_most: None
) -> None:
    """An independent loop over the same batches, ended at the same step."""
    view = artefacts(prune=PRUNE, build=RUNGS, baselines=[])
    view.block_keys  # noqa: B018
    candidate = next(c for c in _stopped(view) if _meta(view, c)["kept"] == "trained")
    meta = _meta(view, candidate)
    ((_, data),) = slot_activations(view.context, [candidate.slot])
    (built,) = closed_forms(data, [candidate])
    assert built.block is not None
    fitted = len(data.x) - data.held_out
    per_step = 96 // data.x.shape[1]
    steps = 4 * -(-fitted // per_step)
    end = round(steps / 2)
    assert meta["stopped"] == {"step": end, "of": steps, "reason": "told to"}
    block = built.block.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(block.parameters(), lr=1.0, weight_decay=0.0)
    generator = torch.Generator().manual_seed(view.context.config.seed)
    power = data.y[:fitted].pow(2).mean()
    batches = [
        rows
        for _ in range(4)
        for rows in torch.randperm(fitted, generator=generator).split(per_step)
    ]
    for step, rows in enumerate(batches[:end]):
        optimiser.param_groups[0]["lr"] = 3e-3 * cosine(step, max(1, round(0.1 * steps)), steps)
        with torch.autocast("cpu", enabled=False):
            loss = (block(data.x[rows], data.context) - data.y[rows]).pow(2).mean() / power
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    error = data.error(block.eval())
    assert meta["rung_errors"][-1] == meta["trained_error"] == pytest.approx(error, rel=0.02)
    assert len(meta["rung_errors"]) == 2


def test_a_run_with_rungs_that_is_done_does_nothing_and_mends_what_is_torn(
    artefacts: Callable[..., Artefacts], stops_most: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = artefacts(prune=PRUNE, build=RUNGS, baselines=[])
    keys = first.block_keys
    again = artefacts(prune=PRUNE, build=RUNGS, baselines=[])
    assert again.block_keys == keys
    assert "build" not in again.context.run.tally.done
    torn = next(c for c in _stopped(first) if _weights(first, c))
    weights = _weights(first, torn)
    path = first.context.block_folder(torn.slot.id, torn.spec.label) / "block.safetensors"
    path.write_bytes(b"torn")
    monkeypatch.setattr(RungJudge, "after", lambda *_: pytest.fail("it is decided already"))
    mended = artefacts(prune=PRUNE, build=RUNGS, baselines=[])
    assert mended.block_keys == keys
    assert mended.context.run.tally.done["build"] == 1
    assert _weights(mended, torn) == weights


def test_without_rungs_the_stopped_are_finished_and_stay_so(
    artefacts: Callable[..., Artefacts], stops_most: None
) -> None:
    view = artefacts(prune=PRUNE, build=RUNGS, baselines=[])
    view.block_keys  # noqa: B018
    stopped = {c.id for c in _stopped(view)}
    assert stopped
    whole = artefacts(prune=PRUNE, build=BUILD, baselines=[])
    keys = whole.block_keys
    assert keys == block_keys(whole.context, whole.candidates)
    assert whole.context.run.tally.done["build"] >= len(stopped & keys.keys())
    back = artefacts(prune=PRUNE, build=RUNGS, baselines=[])
    assert not {c.id for c in _stopped(back)} & {c.id for c in whole.candidates}


def test_a_pool_stops_the_same_blocks_with_the_same_bytes(
    small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = small_config(prune=PRUNE, build=RUNGS, baselines=[])
    compile_run(config, RunDirectory.create(tmp_path / "here"), stop="build")
    compile_run(
        config,
        RunDirectory.create(tmp_path / "there"),
        stop="build",
        executor=ProcessPool(2, threads=1),
    )
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


@pytest.mark.parametrize("told", [("w24",), ("w24", "w24-int8")])
def test_an_eight_bit_block_stops_with_its_structure(
    told: tuple[str, ...], artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The structure goes on while one of both is wanted."""
    monkeypatch.setattr(RungJudge, "after", lambda *_: dict.fromkeys(told, "told to"))
    view = artefacts(prune=PRUNE, build=RUNGS, baselines=[])
    slot = Slot(layer=1, kind="ffn")
    specs = [GatedFeedForward(width=24), GatedFeedForward(width=24, precision="int8")]
    candidates = [Candidate(slot=slot, spec=spec) for spec in specs]
    outlook = SlotOutlook(options=(), prices=(), gap=0.0, factor=1.0, lines=())
    build(view.context, candidates, outlooks={slot.id: outlook})
    stopped = [_meta(view, c)["stopped"] is not None for c in candidates]
    assert stopped == [len(told) == 2] * 2


def test_rungs_need_pruning(small_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match=r"build\.rungs.*prune\.keep"):
        small_config(build=RUNGS)


@pytest.mark.parametrize("other", [{"rungs": 4}, {"rung_factor": 4.0}])
def test_curves_of_other_rungs_are_made_again(
    artefacts: Callable[..., Artefacts],
    small_config: Callable[..., RunConfig],
    tmp_path: Path,
    other: dict[str, float],
) -> None:
    """The lines are those of a run that never had other rungs."""
    artefacts(prune=PRUNE, build=RUNGS, baselines=[]).candidates  # noqa: B018
    sections = {"prune": PRUNE, "build": {**RUNGS, **other}, "baselines": []}
    changed = artefacts(**sections)
    run = RunDirectory.create(tmp_path / "fresh")
    fresh = Artefacts(PassContext(small_config(**sections), run))
    found = []
    for view in (changed, fresh):
        view.candidates  # noqa: B018
        found.append(view.context.run.require("prune/survivors").data)
    assert found[0]["trials"] == found[1]["trials"]
    assert found[0]["outlooks"] == found[1]["outlooks"]
    assert changed.context.run.tally.done["build"] >= 1
    again = artefacts(**sections)
    again.candidates  # noqa: B018
    assert "build" not in again.context.run.tally.done


def test_a_closed_form_without_error_has_nothing_left() -> None:
    records = {f"build/{n}": {"rung_errors": [n / 10], "initial_error": n / 5} for n in range(6)}
    run = SimpleNamespace(require=lambda unit: SimpleNamespace(data=records[unit]))
    config = SimpleNamespace(prune=SimpleNamespace(confidence=0.9))
    names = {str(n): 0.1 * n for n in range(6)}
    lines = _lines(SimpleNamespace(run=run, config=config), SimpleNamespace(means=names), names)  # type: ignore[arg-type]
    assert len(lines) == 1
    assert all(math.isfinite(value) for value in lines[0])
