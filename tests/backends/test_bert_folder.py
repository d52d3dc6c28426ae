"""Students as plain BERTs: loaded by transformers alone, and gated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertModel

from nas.backends.huggingface import check_bert_folder, export_bert_folder
from nas.backends.huggingface._bert import whole_heads
from nas.config import TeacherConfig
from nas.errors import ArtifactError, CapabilityError, PassError
from nas.ir import Architecture, EncoderShape, Skip
from nas.teachers import load_teacher
from tests.supernet.encoders import encoder, encoder_shape, framed_tokenizer, windows


@pytest.mark.parametrize(
    ("heads", "head_dim", "bert_heads"),
    [(4, 6, 4), (3, 6, 3), (5, 4, 6), (2, 6, 2), (2, 5, 2), (1, 6, 1)],
)
def test_transformers_computes_the_same_without_our_code(
    tmp_path: Path, heads: int, head_dim: int, bert_heads: int
) -> None:
    chain = encoder(encoder_shape(query_heads=heads, kv_heads=heads, head_dim=head_dim))
    folder, ids = tmp_path / "student", windows(3)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0

    export_bert_folder(chain, framed_tokenizer(), folder, name="student")

    model = AutoModel.from_pretrained(folder)
    assert isinstance(model, BertModel)
    assert model.config.num_attention_heads == bert_heads
    states = model.eval()(ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(states[mask.bool()], chain(ids, mask)[mask.bool()], atol=2e-5)
    assert check_bert_folder(folder, chain, ids) < 1e-5
    kinds = [
        entry["type"].rpartition(".")[2]
        for entry in json.loads((folder / "modules.json").read_text())
    ]
    assert kinds == ["Transformer", "Pooling", "Normalize"]


def test_nas_reads_what_it_wrote(tmp_path: Path) -> None:
    chain, ids = encoder(encoder_shape(pooling="cls", normalised=False)), windows(3)
    export_bert_folder(chain, framed_tokenizer(), tmp_path / "student", name="student")

    again = load_teacher(TeacherConfig(source=str(tmp_path / "student")))

    assert isinstance(again.shape, EncoderShape)
    assert (again.shape.pooling, again.shape.normalised) == ("cls", False)
    assert torch.allclose(again.chain(ids), chain(ids), atol=1e-6)


def test_an_altered_folder_does_not_pass_the_gate(tmp_path: Path) -> None:
    chain, folder = encoder(), tmp_path / "student"
    export_bert_folder(chain, framed_tokenizer(), folder, name="student")
    state = load_file(folder / "model.safetensors")
    state["encoder.layer.1.output.dense.bias"][0] += 0.5
    save_file(state, folder / "model.safetensors", {"format": "pt"})

    with pytest.raises(PassError, match="embeddings differ from the student's"):
        check_bert_folder(folder, chain, windows(3))


def test_a_second_export_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")

    for seed in (0, 1):
        export_bert_folder(encoder(seed=seed), framed_tokenizer(), tmp_path / "s", name="s")
    with pytest.raises(ArtifactError, match="not an exported student"):
        export_bert_folder(encoder(), framed_tokenizer(), other, name="s")

    assert check_bert_folder(tmp_path / "s", encoder(seed=1), windows(3)) < 1e-5


def test_what_is_no_plain_bert_is_refused(tmp_path: Path) -> None:
    from nas.chain import EncoderChain

    skips = EncoderChain(encoder_shape(), Architecture(choices={"layers.1.ffn": Skip()}))
    with pytest.raises(CapabilityError, match=r"layers\.1\.ffn has a block of its own"):
        export_bert_folder(skips, framed_tokenizer(), tmp_path / "s", name="s")
    with pytest.raises(
        CapabilityError, match="9 heads of 45 cannot be filled up to a width of 544"
    ):
        whole_heads(encoder_shape(hidden_size=544, query_heads=9, kv_heads=9, head_dim=45))
