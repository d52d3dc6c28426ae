"""`nas show RUN --layers` and `--timings`: where the time goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.config import TargetConfig
from nas.ir import Architecture
from nas.profiling import LayerProfile, LayerProfiles, NetworkLayers, by_layer, waterfall
from nas.report import Summary, render_html
from nas.run import RunDirectory
from tests.cli.conftest import Nas
from tests.cli.runs import add_summary, make_run
from tests.profiling.test_profiling import nodes
from tests.report.example_summary import SHAPE, example_summary

EXAMPLES = Path(__file__).parents[1] / "profiling" / "examples"


def student(summary: Summary) -> Architecture:
    return Architecture(choices={slot.id: slot.choice.block for slot in summary.slots})


def layers(architecture: Architecture, **ms: float) -> NetworkLayers:
    return by_layer(nodes(**ms), SHAPE, architecture, TargetConfig(), "prefill")


def profile(summary: Summary) -> LayerProfile:
    teacher = layers(Architecture(), embed=1.0, layers_0_attention=4.0, layers_0_ffn=8.0)
    mine = layers(student(summary), embed=1.0, layers_0_ffn=2.5)
    steps = waterfall(teacher, mine, SHAPE, student(summary))
    return LayerProfile(phase="prefill", teacher=teacher, student=mine, steps=steps)


@pytest.fixture
def run(config: Path, tmp_path: Path) -> RunDirectory:
    found = make_run(tmp_path / "runs" / "half", config, ["target.hardware=rtx4090"])
    found.store("teacher", "k", data={"shape": SHAPE.model_dump(mode="json")})
    add_summary(found)
    return found


def test_layers_of_a_run_are_those_on_record(nas: Nas, run: RunDirectory) -> None:
    one = profile(example_summary())
    run.store("profile/layers", "k", data=LayerProfiles(phases=(one,)).model_dump(mode="json"))
    found = json.loads(nas("show", run.root, "--layers", "-f", "json").stdout)
    assert LayerProfiles.model_validate(found).phases == (one,)
    text = nas("show", run.root, "--layers").stdout
    assert "prefill: from teacher to student" in text
    assert "layers.0.attention" in text


def test_a_run_that_was_not_profiled_says_which_pass_is_missing(
    nas: Nas, run: RunDirectory
) -> None:
    result = nas("show", run.root, "--layers")
    assert result.exit_code == 1
    assert "profile" in result.stderr


def test_timings_from_elsewhere_are_laid_on_the_student(nas: Nas, run: RunDirectory) -> None:
    files = ("--timings", EXAMPLES / "tensorrt_profile.json")
    info = ("--layer-info", EXAMPLES / "tensorrt_layers_io_tensors.json")
    found = NetworkLayers.model_validate_json(
        nas("show", run.root, *files, *info, "--phase", "decode", "-f", "json").stdout
    )
    assert (found.phase, found.ms) == ("decode", pytest.approx(0.2))
    attention = found.of("layers.0.attention")
    assert attention is not None
    chosen = {slot.id: slot.choice.block for slot in example_summary().slots}
    assert attention.block == SHAPE.resolve(SHAPE.slots()[0], chosen["layers.0.attention"]).label
    assert attention.roof_share is None or attention.roof_share > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer-info", "a.json"], "--layer-info is of a profile made elsewhere; give --timings"),
        (["--phase", "decode"], "--phase is of a profile made elsewhere; give --timings"),
        (["--layers", "--phase", "prefill"], "--phase is of a profile made elsewhere"),
        (["--layers", "--slot", "layers.0.ffn"], "--slot and --layers: give one of them"),
        (["--timings", "a.json", "--slot", "x"], "--slot and --timings: give one of them"),
        (["layers.0.ffn", "--layers"], "--layers is of a run, which takes no NAME"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    nas: Nas, run: RunDirectory, arguments: list[str], message: str
) -> None:
    result = nas("show", run.root, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_timings_that_name_no_part_are_refused(nas: Nas, run: RunDirectory) -> None:
    result = nas("show", run.root, "--timings", EXAMPLES / "tensorrt_profile.json")
    assert result.exit_code == 2
    assert "none of its layers names a part of the student" in result.stderr


def test_the_page_has_the_waterfall(nas: Nas) -> None:
    summary = example_summary()
    with_layers = summary.model_copy(update={"layers": (profile(summary),)})
    page = render_html(with_layers)
    assert "Where the time goes" in page
    assert "Prefill, layer by layer" in page
    assert "Where the time goes" not in render_html(summary)
