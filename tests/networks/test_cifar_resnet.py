"""CIFAR ResNets: counts, initialisation, the shortcut, trained weights under foreign names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from nas.errors import ArtifactError, ConfigError
from nas.networks import CifarResNetSpec, load_image_teacher, resnet_from_state, resnet_state
from tests.networks.counting import counted

SPECS = [
    CifarResNetSpec((1, 1, 1)),
    CifarResNetSpec((3, 1, 5), classes=100),
    CifarResNetSpec((1, 2, 1), widths=(4, 6, 10), classes=3, image_size=9),
]
TINY = CifarResNetSpec((1, 2, 1), widths=(4, 8, 12), classes=3, image_size=8)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key)
def test_counts_are_those_of_the_built_network(spec: CifarResNetSpec) -> None:
    shape = (1, 3, spec.image_size, spec.image_size)

    assert counted(spec.build(0), torch.zeros(shape)) == (spec.size().params, spec.size().flops)


def test_resnet_56_has_its_published_size_and_depth() -> None:
    spec = CifarResNetSpec((9, 9, 9))

    assert spec.depth == 56
    assert spec.size().params == 853_018


def test_equal_seeds_give_equal_weights_and_leave_other_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    first, second, third = TINY.build(1), TINY.build(1), TINY.build(2)

    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.stem[0].weight, second.stem[0].weight)
    assert not torch.equal(first.stem[0].weight, third.stem[0].weight)


def test_the_shortcut_takes_every_other_pixel_and_pads_channels_on_both_sides() -> None:
    network = TINY.build(0).eval()
    block = network.stages[1][0]
    with torch.no_grad():
        block.bn2.weight.zero_()  # the branch brings nothing
    state = torch.rand(1, 4, 8, 8)

    found = block(state)

    expected = torch.zeros(1, 8, 4, 4)
    expected[:, 2:6] = state[:, :, ::2, ::2]
    assert torch.equal(found, expected)


def test_a_network_by_hand_gives_the_same_logits() -> None:
    """One block a stage, evaluated with functional operations alone."""
    network = CifarResNetSpec((1, 1, 1), (4, 4, 4), 3, 8).build(3).eval()
    state = network.state_dict()
    pictures = torch.randn(2, 3, 8, 8)

    def conv_norm(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        x = F.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=1)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        x = (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + 1e-5).sqrt()
        return x * state[f"{norm}.weight"].view(-1, 1, 1) + state[f"{norm}.bias"].view(-1, 1, 1)

    x = conv_norm(pictures, "stem.0", "stem.1").clamp(min=0)
    for stage in range(3):
        at, stride = f"stages.{stage}.0", 2 if stage else 1
        branch = conv_norm(x, f"{at}.conv1", f"{at}.bn1", stride).clamp(min=0)
        branch = conv_norm(branch, f"{at}.conv2", f"{at}.bn2")
        x = (branch + x[:, :, ::stride, ::stride]).clamp(min=0)
    expected = x.mean(dim=(2, 3)) @ state["head.weight"].T + state["head.bias"]

    torch.testing.assert_close(network(pictures), expected, rtol=1e-5, atol=1e-5)


def _foreign(name: str) -> str:
    for ours, theirs in (("stem.0", "conv1"), ("stem.1", "bn1"), ("head", "linear")):
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    stage, rest = name.removeprefix("stages.").split(".", 1)
    return f"layer{int(stage) + 1}.{rest}"


def test_weights_under_the_usual_names_load_and_compute_the_same(tmp_path: Path) -> None:
    network = TINY.build(4).eval()
    path = tmp_path / "teacher.safetensors"
    save_file({_foreign(name): t for name, t in resnet_state(network).items()}, path)
    pictures = torch.randn(2, 3, 8, 8)

    loaded = load_image_teacher(str(path))

    assert loaded.training is False
    assert torch.equal(loaded(pictures), network(pictures))


def test_files_of_something_else_are_refused_by_name(tmp_path: Path) -> None:
    state = resnet_state(TINY.build(0))
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"not one")

    with pytest.raises(ArtifactError, match=r"it has no head.weight"):
        resnet_from_state({k: t for k, t in state.items() if "head" not in k}, "x")
    with pytest.raises(ArtifactError, match=r"stages.1.0.shortcut.0.weight"):
        resnet_from_state({**state, "layer2.0.shortcut.0.weight": torch.zeros(1)}, "x")
    with pytest.raises(ArtifactError, match="size mismatch"):
        resnet_from_state({**state, "stages.0.0.conv2.weight": torch.zeros(1)}, "x")
    with pytest.raises(ArtifactError, match="torn"):
        load_image_teacher(str(torn))
    with pytest.raises(ConfigError, match="no such file"):
        load_image_teacher("none.safetensors")
    with pytest.raises(ConfigError, match="such as 9-9-9"):
        load_image_teacher("cifar_resnet:9-0-9")


def test_an_untrained_teacher_by_name() -> None:
    teacher = load_image_teacher("cifar_resnet:1-2-1", classes=7)

    assert teacher.head.out_features == 7
    assert [len(stage) for stage in teacher.stages] == [1, 2, 1]
