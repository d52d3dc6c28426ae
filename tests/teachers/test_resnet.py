"""Residual networks over pictures: what is read, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.chain import ConvChain, normalised
from nas.config import ImageConfig, TeacherConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import BottleneckConvolution, ConvShape, KeepTeacher, parse_shape
from nas.teachers import load_teacher, read_shape
from tests.pictures import SIDE, ResNet, pictures, random_resnet, write_resnet

CASES = {
    "cifar": ResNet((3, 2, 2), (6, 8, 12), pads=True),
    "torchvision basic": ResNet((2, 2), (6, 8), stem=7),
    "torchvision bottleneck": ResNet((2, 2), (4, 6), bottleneck=True, stem=7),
    "a stage without a slot": ResNet((2, 1, 2), (6, 8, 10)),
}


def _config(path: Path, side: int = SIDE) -> TeacherConfig:
    return TeacherConfig(source=str(path), image=ImageConfig(side=side))


@pytest.mark.parametrize("case", CASES)
def test_the_chain_computes_what_the_network_with_batch_norms_does(
    case: str, tmp_path: Path
) -> None:
    model = random_resnet(CASES[case])
    side = SIDE if model.stem == 3 else 32
    teacher = load_teacher(_config(write_resnet(model, tmp_path / "w.safetensors"), side))
    chain, batch = teacher.chain, pictures(3, side=side)
    assert isinstance(chain, ConvChain)
    with torch.no_grad():
        wanted = model(normalised(batch, chain.shape))
        torch.testing.assert_close(chain(batch), wanted, atol=1e-4, rtol=1e-4)
    assert teacher.tokenizer is None


def test_slots_are_the_blocks_that_keep_the_size_of_the_state(tmp_path: Path) -> None:
    path = write_resnet(random_resnet(CASES["torchvision bottleneck"]), tmp_path / "w.safetensors")
    shape = read_shape(_config(path, 32))
    assert isinstance(shape, ConvShape)
    assert [slot.id for slot in shape.slots()] == ["layers.0.stage1", "layers.1.stage2"]
    assert [(s.opens, s.channels, s.width, s.side) for s in shape.stages] == [
        (True, 16, 4, 8),
        (True, 24, 6, 4),
    ]
    slot = shape.slots()[1]
    assert shape.resolve(slot, KeepTeacher()) == BottleneckConvolution(width=6)
    assert parse_shape(json.loads(shape.model_dump_json())) == shape


def test_weights_of_the_shape_are_counted(tmp_path: Path) -> None:
    from nas.teachers._teacher import parameter_count

    for case, model in CASES.items():
        path = write_resnet(random_resnet(model), tmp_path / "w.safetensors")
        teacher = load_teacher(_config(path, SIDE if model.stem == 3 else 32))
        assert parameter_count(teacher.shape) == sum(
            p.numel() for p in teacher.chain.parameters()
        ), case


def test_a_folder_as_timm_writes_it(tmp_path: Path) -> None:
    write_resnet(random_resnet(CASES["cifar"]), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "resnet20"}')
    assert read_shape(_config(tmp_path)).family == "resnet"


def _rewritten(tmp_path: Path, change: dict[str, torch.Tensor | None]) -> Path:
    path = write_resnet(random_resnet(CASES["cifar"]), tmp_path / "w.safetensors")
    state = load_file(path)
    for name, value in change.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layer1.0.se.fc1.weight": torch.ones(2, 6)}, "squeeze-and-excitation"),
        ({"layer1.1.conv2.weight": torch.ones(6, 3, 3, 3)}, "convolutions in groups"),
        ({"layer2.0.bn1.running_mean": None}, "layer2.0.bn1.running_mean"),
        ({"fc.weight": None, "fc.bias": None}, "no classifier"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    change: dict[str, torch.Tensor | None], says: str, tmp_path: Path
) -> None:
    with pytest.raises(CapabilityError, match=says):
        read_shape(_config(_rewritten(tmp_path, change)))


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="only ResNets"):
        read_shape(_config(tmp_path / "a.safetensors"))
    (tmp_path / "b.safetensors").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="torn"):
        read_shape(_config(tmp_path / "b.safetensors"))
