"""BERT-like teachers: the states that transformers computes, and refusals that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.chain import EncoderChain
from nas.config import TeacherConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import EncoderShape, parse_shape
from nas.teachers import chain_from_model, load_teacher, read_shape, source_stamp
from tests.encoders import ENCODERS, save_tiny_encoder, tiny_encoder_model

IDS = torch.tensor([[2, 5, 7, 9, 11, 3], [2, 8, 6, 3, 0, 0]])
MASK = (IDS != 0).long()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_encoder(tmp_path / "bert", pooling="mean_tokens")


def _shape(folder: Path) -> EncoderShape:
    shape = read_shape(TeacherConfig(source=str(folder)))
    assert isinstance(shape, EncoderShape)
    return shape


@pytest.mark.parametrize("family", ENCODERS)
def test_states_are_those_of_transformers(family: str) -> None:
    model = tiny_encoder_model(family)
    chain = chain_from_model(model)
    assert isinstance(chain, EncoderChain)
    with torch.no_grad():
        expected = model(IDS, attention_mask=MASK).last_hidden_state
        found = chain(IDS, MASK)
        whole = chain(IDS[:1])
    torch.testing.assert_close(found[MASK.bool()], expected[MASK.bool()], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, expected[:1], rtol=1e-4, atol=1e-5)


def test_token_types_are_read() -> None:
    model = tiny_encoder_model("bert")
    chain, types = chain_from_model(model), (torch.arange(6) > 2).long().expand(2, 6)
    with torch.no_grad():
        expected = model(IDS, attention_mask=MASK, token_type_ids=types).last_hidden_state
        found = chain(IDS, MASK, types)
    torch.testing.assert_close(found[MASK.bool()], expected[MASK.bool()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ENCODERS)
def test_a_folder_is_read(family: str, tmp_path: Path) -> None:
    teacher = load_teacher(TeacherConfig(source=str(save_tiny_encoder(tmp_path / "t", family))))
    assert parse_shape(teacher.shape.model_dump(mode="json")) == teacher.shape
    expected = chain_from_model(tiny_encoder_model(family))
    torch.testing.assert_close(teacher.chain(IDS), expected(IDS))


@pytest.mark.parametrize("family", ENCODERS)
def test_logits_of_masked_tokens_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = tiny_encoder_model(family, masked=True)
    loaded = load_teacher(
        TeacherConfig(source=str(save_tiny_encoder(tmp_path / "t", family, masked=True)))
    )
    with torch.no_grad():
        expected = model(IDS, attention_mask=MASK).logits[MASK.bool()]
        for chain in (chain_from_model(model), loaded.chain):
            assert isinstance(chain, EncoderChain)
            found = chain.logits(chain(IDS, MASK))[MASK.bool()]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert loaded.shape.language
    assert parse_shape(loaded.shape.model_dump(mode="json")) == loaded.shape
    outside = (p for n, p in loaded.chain.named_parameters() if n.startswith(loaded.chain.outside))
    assert loaded.shape.outside_parameters == sum(p.numel() for p in outside)


def test_a_head_under_old_names_is_read(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "t", masked=True)
    chain = load_teacher(TeacherConfig(source=str(folder))).chain
    weights = load_file(folder / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta")
        .replace("predictions.bias", "predictions.decoder.bias"): tensor
        for name, tensor in weights.items()
        if not name.endswith("decoder.bias")
    }
    assert "cls.predictions.decoder.bias" in old
    assert "cls.predictions.transform.LayerNorm.gamma" in old
    save_file(old, folder / "model.safetensors")
    again = load_teacher(TeacherConfig(source=str(folder))).chain
    assert isinstance(chain, EncoderChain)
    assert isinstance(again, EncoderChain)
    torch.testing.assert_close(again.logits(again(IDS)), chain.logits(chain(IDS)))


def test_a_head_of_its_own_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "t", masked=True)
    path = folder / "config.json"
    untied = {**json.loads(path.read_text()), "tie_word_embeddings": False}
    path.write_text(json.dumps(untied))
    with pytest.raises(CapabilityError, match="tie_word_embeddings: false"):
        _shape(folder)


def test_with_pooling_a_head_is_left_unread(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "t", masked=True, pooling="cls_token")
    teacher = load_teacher(TeacherConfig(source=str(folder)))
    assert not teacher.shape.language
    assert not any(name.startswith("head") for name, _ in teacher.chain.named_parameters())


def test_a_checkpoint_with_a_head_and_old_names_is_read(folder: Path) -> None:
    plain = load_teacher(TeacherConfig(source=str(folder))).chain(IDS)
    weights = load_file(folder / "model.safetensors")
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in weights.items()
    }
    old["cls.predictions.bias"] = torch.zeros(3)
    save_file(old, folder / "model.safetensors")
    torch.testing.assert_close(load_teacher(TeacherConfig(source=str(folder))).chain(IDS), plain)


@pytest.mark.parametrize(("mode", "expected"), [("mean_tokens", "mean"), ("cls_token", "cls")])
def test_pooling_is_read(mode: str, expected: str, tmp_path: Path) -> None:
    shape = _shape(save_tiny_encoder(tmp_path / "t", pooling=mode))
    assert (shape.pooling, shape.normalised) == (expected, True)


def test_without_a_normalising_module_embeddings_keep_their_length(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    assert not _shape(folder).normalised


def test_the_stamp_does_not_depend_on_the_order_of_files_of_one_name(
    folder: Path, tmp_path: Path
) -> None:
    config = TeacherConfig(source=str(folder))
    stamp = source_stamp(config)
    moved = folder.rename(tmp_path / "00")
    assert source_stamp(TeacherConfig(source=str(moved))) == stamp
    (moved / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert source_stamp(TeacherConfig(source=str(moved))) != stamp


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"is_decoder": True}, "choose an encoder"),
        ({"architectures": ["BertForQuestionAnswering"]}, "choose a teacher that is a BertModel"),
    ],
)
def test_what_the_chain_cannot_express_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CapabilityError, match=message):
        _shape(folder)


def test_pooling_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "t", pooling="max_tokens")
    with pytest.raises(CapabilityError, match="max_tokens is not supported; supported: the mean"):
        _shape(folder)


def test_a_module_that_is_not_known_is_refused(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CapabilityError, match="the module Dense is not supported"):
        _shape(folder)


@pytest.mark.parametrize("path", ["../outside", "/etc"])
def test_modules_outside_the_folder_are_refused(folder: Path, path: str) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="lies outside the folder"):
        _shape(folder)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json"])
def test_torn_listings_are_refused(folder: Path, text: str) -> None:
    (folder / "modules.json").write_text(text)
    with pytest.raises(ConfigError, match=r"modules\.json"):
        _shape(folder)
