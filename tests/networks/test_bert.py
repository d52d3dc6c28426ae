"""Encoders in AutoDistil's geometry: counts, heads that divide nothing, queries, keys, values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas.errors import ConfigError
from nas.networks import BertSpec, load_encoder_teacher
from tests.networks.counting import counted

TINY = BertSpec(
    layers=2,
    heads=3,
    hidden=32,
    mlp_ratio=2.5,
    teacher_heads=4,
    vocabulary=50,
    positions=16,
    tokens=6,
)


def test_counts_are_those_of_the_built_network() -> None:
    size = TINY.size()

    assert counted(TINY.build(0), torch.zeros(1, 6, dtype=torch.long)) == (size.params, size.flops)


def test_the_largest_of_autodistil_base_has_its_published_size() -> None:
    assert BertSpec(12, 12, 640, 4.0).size().params == pytest.approx(79e6, rel=0.005)


def test_queries_keys_and_values_are_those_of_the_last_layer() -> None:
    encoder = TINY.build(0)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    entering = encoder.model(tokens, output_hidden_states=True).hidden_states[-2]
    attention = encoder.model.encoder.layer[1].attention.self

    queries, keys, values = encoder.attention_vectors(tokens)

    assert queries.shape == (2, 3, 3 * 8)
    torch.testing.assert_close(queries, entering @ attention.query.weight.T)
    torch.testing.assert_close(keys, entering @ attention.key.weight.T)
    torch.testing.assert_close(values, entering @ attention.value.weight.T)
    assert not attention.query._forward_hooks


def test_attention_by_hand_with_heads_that_do_not_divide_the_hidden_size() -> None:
    encoder = TINY.build(0)
    tokens = torch.tensor([[1, 2, 3]])
    layer = encoder.model.encoder.layer[1]
    queries, keys, values = (
        v.view(1, 3, 3, 8).transpose(1, 2) for v in encoder.attention_vectors(tokens)
    )
    mixed = (queries @ keys.transpose(2, 3) / 8**0.5).softmax(-1) @ values
    caught: list[torch.Tensor] = []
    layer.attention.self.register_forward_hook(lambda _, __, output: caught.append(output[0]))

    encoder(tokens)

    torch.testing.assert_close(caught[0], mixed.transpose(1, 2).reshape(1, 3, 24))


def test_padding_changes_nothing_for_the_rest() -> None:
    encoder = TINY.build(0)
    padded, mask = torch.tensor([[1, 2, 3, 0]]), torch.tensor([[1, 1, 1, 0]])

    found = encoder(padded, mask)[:, :3]

    torch.testing.assert_close(found, encoder(padded[:, :3]), rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_weights_and_leave_other_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    first, second, third = (TINY.build(seed).state_dict() for seed in (1, 1, 2))

    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    name = "model.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(first[name], third[name])


def test_training_mode_changes_nothing() -> None:
    encoder, tokens = TINY.build(0), torch.tensor([[1, 2, 3]])

    assert torch.equal(encoder.eval()(tokens), encoder.train()(tokens))


def test_a_teacher_is_read_from_a_folder(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    with torch.random.fork_rng(devices=[]):
        BertModel(config).save_pretrained(tmp_path)

    teacher = load_encoder_teacher(str(tmp_path))

    assert teacher.heads == 2
    assert teacher.attention_vectors(torch.tensor([[1, 2]]))[0].shape == (1, 2, 8)
    with pytest.raises(ConfigError, match="give a folder that holds a BERT"):
        load_encoder_teacher(str(tmp_path / "none"))
