"""Exports: gates before names, and only what changed is written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nas.errors import ConfigError, PassError
from nas.passes import Artefacts


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_failed_gate_fails_the_export_and_leaves_the_earlier_files(
    artefacts: Callable[..., Artefacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = artefacts()
    first.exported  # noqa: B018
    folder = first.context.run.path("student")
    before = _bytes(folder)
    second = artefacts(distill={"steps": 5})
    monkeypatch.setattr("nas.passes.export._HUGGINGFACE_TOLERANCE", -1.0)
    with pytest.raises(PassError, match="differ"):
        second.exported  # noqa: B018
    assert _bytes(folder) == before
    assert not [p for p in folder.parent.iterdir() if "unchecked" in p.name]
    assert second.context.run.record("export/huggingface-student") is not None


def test_an_unrelated_setting_exports_nothing_again(artefacts: Callable[..., Artefacts]) -> None:
    artefacts().exported  # noqa: B018
    again = artefacts(target={"repeats": 3}, export={"sm": [89]})
    again.exported  # noqa: B018
    assert "export" not in again.context.run.tally.done


def test_engines_without_a_compute_capability_are_refused_before_anything_is_written(
    artefacts: Callable[..., Artefacts],
) -> None:
    view = artefacts(
        target={"hardware": "x86-avx512-amx"},
        space="decoder",
        export={"formats": ["huggingface", "tensorrt_rtx"]},
    )
    with pytest.raises(ConfigError, match=r"export\.sm"):
        view.exported  # noqa: B018
    assert not view.context.run.path("student").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_teacher_in_half_precision_goes_the_whole_way(
    artefacts: Callable[..., Artefacts], dtype: str
) -> None:
    view = artefacts(teacher={"dtype": dtype})
    assert view.report.exists()
    quality = view.quality["after"]
    assert 0 <= quality["student"].kl_nats < 20
    assert quality["teacher"].kl_nats == pytest.approx(0, abs=1e-5)
