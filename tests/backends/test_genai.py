"""The folder in onnxruntime-genai itself, for students whose layers differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.backends.onnx import _genai, check_genai, export_onnx, write_genai_config
from nas.chain import DecoderChain
from nas.errors import CapabilityError, PassError
from nas.ir import Architecture, GatedFeedForward, GroupedQueryAttention, LinearMap, Skip
from tests.chains import MIXED, tiny_chain, tiny_ids

ATTENTION = [f"layers.{i}.attention" for i in range(4)]
ARCHITECTURES = {
    "teacher": Architecture(),
    "mixed": MIXED,
    "no attention first": Architecture(choices={ATTENTION[0]: Skip()}),
    "no attention last": Architecture(choices={ATTENTION[3]: LinearMap()}),
    "attention once": Architecture(choices=dict.fromkeys(ATTENTION[:3], Skip())),
    "other heads in each layer": Architecture(
        choices={
            name: GroupedQueryAttention(kv_heads=heads)
            for name, heads in zip(ATTENTION, (1, 2, 2, 1), strict=True)
        }
    ),
    "rounded": Architecture(
        choices={
            ATTENTION[0]: GroupedQueryAttention(kv_heads=2, precision="int8_dynamic"),
            "layers.1.ffn": GatedFeedForward(width=48, precision="int8"),
            "layers.2.ffn": GatedFeedForward(width=48, precision="float16"),
        }
    ),
}


def _folder(folder: Path, chain: DecoderChain) -> Path:
    export_onnx(chain, folder)
    write_genai_config(chain.shape, folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_writes_torchs_text(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    chain = tiny_chain(architecture=ARCHITECTURES[name])
    folder = _folder(tmp_path, chain)
    tolerance = 0.5 if name == "rounded" else 1e-3
    ties = check_genai(folder, chain, tiny_ids()[0], greedy_tokens=24, tolerance=tolerance)
    assert ties <= (24 if name == "rounded" else 0)


def test_a_text_that_ends_is_compared_to_its_end(tmp_path: Path) -> None:
    """The teacher's own text of the test above ends with token 257 after eight others."""
    pytest.importorskip("onnxruntime_genai")
    chain = tiny_chain(architecture=Architecture())
    folder = _folder(tmp_path, chain)
    config = json.loads((folder / "genai_config.json").read_text())
    assert config["model"]["eos_token_id"] == chain.shape.eos_token_ids[0] == 257
    assert len(_genai._continued(folder, tiny_ids()[0].tolist(), 24)) < 24
    check_genai(folder, chain, tiny_ids()[0], greedy_tokens=24, tolerance=1e-3)
    # Another token as the end: the runtime stops where torch does not.
    first = _genai._continued(folder, tiny_ids()[0].tolist(), 24)[2]
    config["model"]["eos_token_id"] = first
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(PassError, match=r"token \d of 24 by onnxruntime-genai is 257"):
        check_genai(folder, chain, tiny_ids()[0], greedy_tokens=24, tolerance=1e-3)


def test_another_network_is_found(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    folder = _folder(tmp_path, tiny_chain())
    with pytest.raises(PassError, match="token 1 of 24 by onnxruntime-genai is"):
        check_genai(folder, tiny_chain(seed=1), tiny_ids()[0], greedy_tokens=24, tolerance=1e-3)


def test_a_folder_that_it_does_not_take_says_why(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    chain = tiny_chain()
    path = _folder(tmp_path, chain) / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["type"] = "nobody"
    path.write_text(json.dumps(config))
    with pytest.raises(PassError, match=r"does not run it \(exit code 1\): .*nobody"):
        check_genai(tmp_path, chain, tiny_ids()[0], greedy_tokens=4, tolerance=1e-3)


def test_without_the_runtime_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the process of its own, which is the only one that imports it."""
    package = tmp_path / "onnxruntime_genai"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libgomp.so.1: no such file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CapabilityError, match=r"no such file\); .*pip install -e '\.\[genai\]'"):
        check_genai(tmp_path, tiny_chain(), tiny_ids()[0], greedy_tokens=4, tolerance=1e-3)
