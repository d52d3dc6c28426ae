"""Transformers over pictures: the logits of transformers and of timm's layout, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.chain import VisionChain, normalised
from nas.config import ImageConfig, TeacherConfig
from nas.errors import CapabilityError, ConfigError
from nas.ir import VisionShape, parse_shape
from nas.teachers import chain_from_model, load_teacher, read_shape, source_stamp
from nas.teachers._folder import FolderSource
from nas.teachers._teacher import parameter_count
from tests.pictures import pictures
from tests.vits import (
    CLASSES,
    KINDS,
    PATCH,
    PLACES,
    SIDE,
    random_timm_vit,
    save_tiny_vit,
    tiny_vit_model,
    write_timm_vit,
)

TIMM: dict[str, dict[str, Any]] = {
    "token": {},
    "mean": {"pool": "avg"},
    "scaled branches": {"scales": True},
    "distilled": {"distilled": True},
    "no biases of queries": {"qkv_bias": False},
    "positions of patches alone": {"whole_positions": False},
    "no classifier": {"classes": 0},
    "mean, no classifier, scaled": {"pool": "avg", "classes": 0, "scales": True},
}


def _config(path: Path, **image: Any) -> TeacherConfig:
    return TeacherConfig(source=str(path), image=ImageConfig(**image) if image else None)


def _shape(path: Path, **image: Any) -> VisionShape:
    shape = read_shape(_config(path, **image))
    assert isinstance(shape, VisionShape)
    return shape


def _theirs(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    said = model(pixels)
    return said.logits if hasattr(said, "logits") else said.last_hidden_state[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    model, batch = tiny_vit_model(kind), pictures(3, side=SIDE)
    loaded = load_teacher(_config(save_tiny_vit(tmp_path / "t", kind)))
    assert loaded.tokenizer is None
    assert parse_shape(json.loads(loaded.shape.model_dump_json())) == loaded.shape
    assert loaded.shape.embeds == kind.endswith("Model")
    for chain in (loaded.chain, chain_from_model(model)):
        assert isinstance(chain, VisionChain)
        with torch.no_grad():
            expected = _theirs(model, normalised(batch, chain.shape))
            torch.testing.assert_close(chain(batch), expected, rtol=1e-5, atol=1e-5)
    assert parameter_count(loaded.shape) + _slot_norms(loaded.shape) == sum(
        p.numel() for p in loaded.chain.parameters()
    )


def _slot_norms(shape: Any) -> int:
    return len(shape.slots()) * int(shape.norm_parameters)


def test_in_a_lower_format_the_stream_stays_wide(tmp_path: Path) -> None:
    folder, batch = save_tiny_vit(tmp_path / "t"), pictures(3, side=SIDE)
    whole = load_teacher(_config(folder)).chain
    low = load_teacher(TeacherConfig(source=str(folder), dtype="bfloat16")).chain
    assert isinstance(whole, VisionChain)
    assert isinstance(low, VisionChain)
    assert low.embed_tokens(batch).dtype == torch.float32
    assert low(batch).dtype == torch.bfloat16
    apart = (low(batch).float() - whole(batch)).norm() / whole(batch).norm()
    assert 0 < apart < 0.05


def test_without_biases_of_queries_and_with_old_and_new_names(tmp_path: Path) -> None:
    model, batch = tiny_vit_model(qkv_bias=False), pictures(2, side=SIDE)
    folder = save_tiny_vit(tmp_path / "t", qkv_bias=False)
    weights = load_file(folder / "model.safetensors")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in weights
    save_file(dict(model.state_dict()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for path in (folder, tmp_path):
        chain = load_teacher(_config(path)).chain
        with torch.no_grad():
            expected = model(normalised(batch, chain.shape)).logits  # type: ignore[arg-type]
            torch.testing.assert_close(chain(batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", TIMM)
def test_answers_are_those_of_timms_layout(case: str, tmp_path: Path) -> None:
    model = random_timm_vit(**TIMM[case])
    path = write_timm_vit(model, tmp_path / "w.safetensors")
    teacher, batch = load_teacher(_config(path, mean=(0.4, 0.5, 0.6))), pictures(3, side=SIDE)
    chain = teacher.chain
    assert isinstance(chain, VisionChain)
    assert chain.shape.image_mean == (0.4, 0.5, 0.6)
    assert chain.shape.image_std == (0.229, 0.224, 0.225)
    assert chain.shape.image_side == SIDE
    assert chain.shape.query_heads == 2
    with torch.no_grad():
        expected = model(normalised(batch, chain.shape))
        torch.testing.assert_close(chain(batch), expected, rtol=1e-5, atol=1e-5)


def test_a_folder_as_timm_writes_it(tmp_path: Path) -> None:
    config = {
        "architecture": "vit_small_patch4_16",
        "model_args": {"num_heads": 4},
        "global_pool": "token",
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    model = random_timm_vit(heads=4)
    write_timm_vit(model, tmp_path / "model.safetensors", config)
    shape = _shape(tmp_path)
    assert (shape.query_heads, shape.head_dim, shape.classes) == (4, 32, CLASSES)
    assert (shape.image_mean, shape.image_std) == ((0.5,) * 3, (0.25,) * 3)
    assert (shape.patch_side, shape.places, shape.layers) == (PATCH, PLACES, 2)
    stamp = source_stamp(_config(tmp_path))
    config["model_args"] = {"num_heads": 2}
    write_timm_vit(model, tmp_path / "model.safetensors", config)
    assert source_stamp(_config(tmp_path)) != stamp
    config["global_pool"] = "map"
    write_timm_vit(model, tmp_path / "model.safetensors", config)
    with pytest.raises(CapabilityError, match="global_pool 'map' is not supported"):
        _shape(tmp_path)


def test_a_hub_id_of_timm_is_told_by_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    write_timm_vit(random_timm_vit(), tmp_path / "model.safetensors", {"architecture": "vit"})
    asked: list[list[str]] = []

    def download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert read_shape(TeacherConfig(source="timm/vit")).family == "vit"
    assert "*.safetensors" not in asked[0]
    assert "*.safetensors" in asked[1]


def test_the_preprocessor_says_how_pictures_are_taken(tmp_path: Path) -> None:
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": {"height": SIDE}}
    folder = save_tiny_vit(tmp_path / "a", preprocessor=said)
    assert _shape(folder).image_mean == (0.1, 0.2, 0.3)
    assert _shape(folder, std=(0.2, 0.2, 0.2)).image_std == (0.2, 0.2, 0.2)
    assert _shape(folder, std=(0.2, 0.2, 0.2)).image_mean == (0.1, 0.2, 0.3)
    stamp = source_stamp(_config(folder))
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    assert (_shape(folder).image_mean, _shape(folder).image_std) == ((0.0,) * 3, (1.0,) * 3)
    assert source_stamp(_config(folder)) != stamp
    (folder / "preprocessor_config.json").unlink()
    assert _shape(folder).image_mean == (0.5, 0.5, 0.5)
    assert _shape(save_tiny_vit(tmp_path / "b", "DeiTModel")).image_mean[0] == 0.485


def test_resizing_cropping_and_labels_of_a_folder_are_carried(tmp_path: Path) -> None:
    said = {
        "auto_map": {"AutoImageProcessor": "evil.Evil"},
        "feature_extractor_type": "DeiTFeatureExtractor",
        "size": 18,
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
    }
    names = {0: "a", 1: "b", 2: "c", 3: "d", 4: "e"}
    folder = save_tiny_vit(tmp_path / "t", preprocessor=said, id2label=names)
    teacher = load_teacher(_config(folder))
    assert teacher.preprocessing == {
        "image_processor_type": "DeiTImageProcessor",
        "size": 18,
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    assert teacher.labels == ("a", "b", "c", "d", "e")
    (folder / "preprocessor_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"]["3"]  # then transformers makes names up, or counts classes otherwise
    (folder / "config.json").write_text(json.dumps({**config, "num_labels": 5}))
    assert FolderSource(folder).preprocessing() == {}
    assert FolderSource(folder).labels() == ()


@pytest.mark.parametrize(
    ("given", "size", "resample"),
    [
        ({"crop_pct": 0.9, "interpolation": "bilinear"}, {"shortest_edge": 17}, 2),
        ({"crop_pct": 1.0, "crop_mode": "squash"}, {"height": SIDE, "width": SIDE}, 3),
        ({"mean": [0.5, 0.5, 0.5]}, {"shortest_edge": 18}, 3),  # timm's own: 0.875 and bicubic
    ],
)
def test_timms_ways_are_carried(
    given: dict[str, Any], size: dict[str, int], resample: int, tmp_path: Path
) -> None:
    names = ["a", "b", "c", "d", "e"]
    config = {"architecture": "vit", "pretrained_cfg": given, "label_names": names}
    write_timm_vit(random_timm_vit(), tmp_path / "model.safetensors", config)
    teacher = load_teacher(_config(tmp_path))
    assert teacher.preprocessing["size"] == size
    assert teacher.preprocessing["resample"] == resample
    assert teacher.preprocessing["do_center_crop"]
    assert teacher.preprocessing["crop_size"] == {"height": SIDE, "width": SIDE}
    assert teacher.labels == tuple(names)


@pytest.mark.parametrize("share", [0, -1, 1.5, 1e-300, "most", [1]])
def test_a_strange_share_of_the_picture_is_refused(share: object, tmp_path: Path) -> None:
    config = {"architecture": "vit", "pretrained_cfg": {"crop_pct": share}}
    write_timm_vit(random_timm_vit(), tmp_path / "model.safetensors", config)
    with pytest.raises(ConfigError, match=r"crop_pct .* is no share"):
        load_teacher(_config(tmp_path))


def test_weights_alone_say_nothing_of_pictures(tmp_path: Path) -> None:
    path = write_timm_vit(random_timm_vit(), tmp_path / "vit.safetensors")
    teacher = load_teacher(_config(path))
    assert (teacher.preprocessing, teacher.labels) == ({}, ())


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ('{"rescale_factor": 0.1}', CapabilityError, "would need another scale"),
        ('{"do_rescale": false}', CapabilityError, "would need another scale"),
        ('{"image_mean": [1, 2], "image_std": [1, 1, 1]}', ConfigError, "one number a channel"),
        ('{"image_mean": [0, 0, 0], "image_std": [1, 1, 0]}', ConfigError, "is not positive"),
        ("[]", ConfigError, "expected an object"),
        ("{", ConfigError, "cannot be read as JSON"),
    ],
)
def test_a_strange_preprocessor_is_refused(
    said: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    folder = save_tiny_vit(tmp_path / "t")
    (folder / "preprocessor_config.json").write_text(said)
    with pytest.raises(error, match=message):
        _shape(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_channels": 1}, "pictures are of three"),
        ({"image_size": [16, 32]}, "pictures and patches are square"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "choose a teacher that is a ViTModel"),
        ({"hidden_act": "tanh"}, "activation 'tanh' is not supported"),
    ],
)
def test_what_the_chain_cannot_express_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = save_tiny_vit(tmp_path / "t")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CapabilityError, match=message):
        load_teacher(_config(folder))


def test_another_side_is_refused_with_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"side: 32, but .* pictures of 16 x 16; leave it out"):
        _shape(save_tiny_vit(tmp_path / "t"), side=32)


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("reg_token", "register tokens"),
        ("norm_pre.weight", "a norm behind the patches"),
        ("blocks.0.attn.q_norm.weight", "norms of queries and keys"),
        ("blocks.0.attn.q_bias", "biases of queries and values"),
        ("blocks.1.attn.rel_pos.relative_position_bias_table", "positions relative to each other"),
        ("blocks.0.mlp.w12.weight", "SwiGLU"),
        ("blocks.0.attn.rope.freqs", "rotary positions"),
        ("attn_pool.latent", "pooling by attention"),
        ("patch_embed.backbone.conv1.weight", "a stem of convolutions"),
        ("something.else", "a place for it"),
        ("fc_norm.weight", "two norms behind the last block"),
        ("dist_token", "another way of reading the last states"),
    ],
)
def test_what_timm_has_beyond_a_plain_vit_is_refused_by_name(
    name: str, needs: str, tmp_path: Path
) -> None:
    path = write_timm_vit(random_timm_vit(), tmp_path / "w.safetensors")
    save_file({**load_file(path), name: torch.ones(3)}, path)
    with pytest.raises(CapabilityError, match=needs):
        _shape(path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"blocks.0.mlp.fc2.weight": torch.ones(128, 48)}, CapabilityError, "SwiGLU"),
        ({"pos_embed": torch.ones(1, 20, 128)}, CapabilityError, "not those of a square picture"),
        ({"patch_embed.proj.weight": torch.ones(128, 1, 4, 4)}, CapabilityError, "takes three"),
        ({"patch_embed.proj.weight": torch.ones(100, 3, 4, 4)}, ConfigError, "how many heads"),
        ({"blocks.1.norm2.bias": None}, ConfigError, "lack blocks.1.norm2.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: dict[str, torch.Tensor | None], error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = write_timm_vit(random_timm_vit(), tmp_path / "w.safetensors")
    state = {**load_file(path), **change}
    save_file({n: v for n, v in state.items() if v is not None}, path)
    with pytest.raises(error, match=message):
        load_teacher(_config(path))


@pytest.mark.parametrize(
    ("config", "needs"),
    [
        ({"architecture": "vit_base_patch16_clip_quickgelu_224"}, "another activation than GELU"),
        ({"architecture": "vit_b", "model_args": {"act_layer": "silu"}}, "another activation"),
        ({"architecture": "vit_base_patch16_rpn_224"}, "norms behind the branches"),
    ],
)
def test_what_weights_do_not_tell_is_refused_by_its_name(
    config: dict[str, Any], needs: str, tmp_path: Path
) -> None:
    write_timm_vit(random_timm_vit(), tmp_path / "model.safetensors", config)
    with pytest.raises(CapabilityError, match=needs):
        _shape(tmp_path)
