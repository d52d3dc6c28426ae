"""The library: what is made, recorded, kept and redone."""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from safetensors.torch import load_file

from nas.ir import Architecture, Candidate, LinearMap, Skip, Slot
from nas.passes import Artefacts
from nas.passes.assemble import assemble


def test_every_candidate_has_a_block_and_its_errors(artefacts: Callable[..., Artefacts]) -> None:
    view = artefacts()
    assert set(view.block_keys) >= {c.id for c in view.candidates}
    run = view.context.run
    for candidate in view.candidates:
        folder = run.path("library", candidate.slot.id, candidate.spec.label)
        meta = json.loads((folder / "meta.json").read_text())
        assert meta["initial_error"] >= 0
        assert meta["tokens"] == 960
        assert (folder / "block.safetensors").exists() == (candidate.spec != Skip())


def test_training_is_kept_only_where_it_helps(artefacts: Callable[..., Artefacts]) -> None:
    closed, trained = artefacts(), None
    closed.block_keys  # noqa: B018
    trained = artefacts(build={"tokens": 960, "epochs": 3, "learning_rate": 3e-3})
    kept = set()
    for candidate in trained.candidates:
        trained.block_keys  # noqa: B018
        meta = trained.context.run.require(f"build/{candidate.id}").data
        if candidate.spec == Skip():
            assert meta["trained_error"] is None
            continue
        better = meta["trained_error"] < meta["initial_error"]
        assert meta["kept"] == ("trained" if better else "closed_form")
        kept.add(meta["kept"])
    assert "trained" in kept


def test_training_lowers_the_error_of_a_block_that_has_far_to_go(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(build={"tokens": 2400, "epochs": 8, "learning_rate": 3e-3, "ridge": 10.0})
    view.block_keys  # noqa: B018
    meta = view.context.run.require("build/layers.1.ffn/linear").data
    assert meta["trained_error"] < 0.9 * meta["initial_error"]


def test_only_the_altered_block_is_made_again(artefacts: Callable[..., Artefacts]) -> None:
    first = artefacts()
    first.block_keys  # noqa: B018
    path = first.context.run.path("library", "layers.1.attention", "linear", "block.safetensors")
    before = path.read_bytes()
    path.write_bytes(before[:-4] + b"\0\0\0\0")
    again = artefacts()
    again.block_keys  # noqa: B018
    assert again.context.run.tally.done == {"build": 1}
    assert path.read_bytes() == before


def test_an_assembled_student_has_the_blocks_of_the_library_and_the_rest_of_the_teacher(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts()
    view.block_keys  # noqa: B018
    teacher, root = view.context.teacher.chain, view.context.run.root
    slot = Slot(layer=1, kind="attention")
    chosen = Candidate(slot=slot, spec=LinearMap())
    student = assemble(teacher, Architecture(choices={slot.id: chosen.spec}), root)
    stored = load_file(root / "library" / slot.id / "linear" / "block.safetensors")
    torch.testing.assert_close(
        student.state_dict()["slots.2.branch.proj.weight"], stored["proj.weight"]
    )
    ours, theirs = student.state_dict(), teacher.state_dict()
    for name in ours:
        if not name.startswith("slots.2.branch"):
            torch.testing.assert_close(ours[name], theirs[name])
    assert ours["norm.weight"].data_ptr() != theirs["norm.weight"].data_ptr()
