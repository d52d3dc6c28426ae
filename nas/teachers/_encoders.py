"""Encoders in the manner of BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from nas._documents import load_json
from nas.errors import CapabilityError, ConfigError
from nas.ir import EncoderShape
from nas.teachers._base import Family
from nas.teachers._names import Layout


class EncoderFamily(Family):
    """Families whose checkpoints may carry a prefix and heads that an embedding does not need."""

    prefix: str
    """What stands before every name in a checkpoint with a head on top."""

    unread: tuple[str, ...]
    """Beginnings of tensors that no embedding depends on, prefix apart."""

    def foreign_names(self, name: str) -> tuple[str, ...]:
        if name.startswith("head."):
            return self._head_names(name)
        plain = self.layout.foreign(name)
        old = plain.replace("LayerNorm.weight", "LayerNorm.gamma")
        old = old.replace("LayerNorm.bias", "LayerNorm.beta")
        return plain, f"{self.prefix}{plain}", f"{self.prefix}{old}", old

    def _head_names(self, name: str) -> tuple[str, ...]:
        """A head stands beside the encoder, without its prefix; its bias may be the decoder's."""
        plain = self.layout.foreign(name)
        old = plain.replace("LayerNorm.weight", "LayerNorm.gamma")
        old = old.replace("LayerNorm.bias", "LayerNorm.beta")
        return plain, old, plain.replace("predictions.bias", "predictions.decoder.bias")

    def ignorable(self, name: str) -> bool:
        return name.removeprefix(self.prefix).startswith(self.unread)

    def _masked_head(self, config: Any) -> bool:
        """Whether the checkpoint's head tells masked tokens.

        Raises CapabilityError where its output layer is not the embeddings' weight.
        """
        if (config.architectures or [""])[0] != self.model_classes[1]:
            return False
        if not getattr(config, "tie_word_embeddings", True):
            raise CapabilityError(
                "tie_word_embeddings: false is not supported: the head of a masked language model "
                "reads through the embeddings; choose a teacher with tied ones, or save its "
                "encoder alone"
            )
        return True


class BertFamily(EncoderFamily):
    """BERT and what is published under its architecture, such as MiniLM."""

    model_type = "bert"
    config_class = "BertConfig"
    model_classes = ("BertModel", "BertForMaskedLM")
    prefix = "bert."
    unread = ("pooler.", "embeddings.position_ids", "cls.")
    layout = Layout(
        outer={
            "embed": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "types": "embeddings.token_type_embeddings",
            "embed_norm": "embeddings.LayerNorm",
            "head": "cls.predictions",
            "head.dense": "cls.predictions.transform.dense",
            "head.norm": "cls.predictions.transform.LayerNorm",
        },
        layer="encoder.layer.{layer}",
        attention={
            "norm": "attention.output.LayerNorm",
            "branch.q_proj": "attention.self.query",
            "branch.k_proj": "attention.self.key",
            "branch.v_proj": "attention.self.value",
            "branch.o_proj": "attention.output.dense",
        },
        ffn={
            "norm": "output.LayerNorm",
            "branch.up_proj": "intermediate.dense",
            "branch.down_proj": "output.dense",
        },
    )

    def shape(self, config: Any) -> EncoderShape:
        positions = getattr(config, "position_embedding_type", None) or "absolute"
        if positions != "absolute":
            raise CapabilityError(
                f"position_embedding_type {positions!r} of the teacher is not supported: it adds "
                f"terms to the attention scores; choose a teacher with absolute positions"
            )
        if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
            raise CapabilityError(
                "the teacher is a decoder in BERT's form; choose an encoder (is_decoder: false)"
            )
        return _shape(
            self.model_type,
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            ffn_width=config.intermediate_size,
            vocab_size=config.vocab_size,
            max_positions=config.max_position_embeddings,
            type_vocab_size=config.type_vocab_size,
            norm_eps=config.layer_norm_eps,
            activation=config.hidden_act,
            masked_head=self._masked_head(config),
        )


class DistilBertFamily(EncoderFamily):
    """DistilBERT: BERT without token types."""

    model_type = "distilbert"
    config_class = "DistilBertConfig"
    model_classes = ("DistilBertModel", "DistilBertForMaskedLM")
    prefix = "distilbert."
    unread = ("embeddings.position_ids", "vocab_")
    layout = Layout(
        outer={
            "embed": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "embed_norm": "embeddings.LayerNorm",
            "head": "vocab_projector",
            "head.dense": "vocab_transform",
            "head.norm": "vocab_layer_norm",
        },
        layer="transformer.layer.{layer}",
        attention={
            "norm": "sa_layer_norm",
            "branch.q_proj": "attention.q_lin",
            "branch.k_proj": "attention.k_lin",
            "branch.v_proj": "attention.v_lin",
            "branch.o_proj": "attention.out_lin",
        },
        ffn={
            "norm": "output_layer_norm",
            "branch.up_proj": "ffn.lin1",
            "branch.down_proj": "ffn.lin2",
        },
    )

    def shape(self, config: Any) -> EncoderShape:
        return _shape(
            self.model_type,
            layers=config.n_layers,
            hidden=config.dim,
            heads=config.n_heads,
            ffn_width=config.hidden_dim,
            vocab_size=config.vocab_size,
            max_positions=config.max_position_embeddings,
            type_vocab_size=0,
            norm_eps=1e-12,
            activation=config.activation,
            masked_head=self._masked_head(config),
        )


def _shape(family: str, *, hidden: int, heads: int, **rest: Any) -> EncoderShape:
    if hidden % heads:
        raise ConfigError(f"{hidden} channels do not share {heads} heads evenly")
    return EncoderShape(
        family=family,
        hidden_size=hidden,
        query_heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        qkv_bias=True,
        output_bias=True,
        ffn_bias=True,
        **rest,
    )


def with_pooling(shape: EncoderShape, folder: Path) -> EncoderShape:
    """`shape` with the pooling that a sentence-transformers folder names, if it is one.

    Raises CapabilityError for modules that are more than pooling and normalising.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        return shape
    kinds = {}
    for entry in _read(listing, list):
        if not isinstance(entry, dict):
            raise ConfigError(f"{listing}: expected a list of modules; fetch it again")
        kinds[str(entry.get("type", "")).rpartition(".")[2]] = str(entry.get("path", ""))
    strange = kinds.keys() - {"Transformer", "Pooling", "Normalize"}
    if strange:
        raise CapabilityError(
            f"{listing}: the module {min(strange)} is not supported; nas keeps encoders whose "
            f"embedding is pooled, and normalised or not"
        )
    pooling = shape.pooling
    if "Pooling" in kinds:
        pooling = _pooling(_inside(folder, kinds["Pooling"]) / "config.json")
    normalised = "Normalize" in kinds
    # A folder with pooling is for embeddings, whatever head the weights may carry.
    found = {"pooling": pooling, "normalised": normalised, "masked_head": False}
    return shape.model_copy(update=found)


def _pooling(path: Path) -> Literal["mean", "cls"]:
    modes = _read(path, dict)
    chosen = sorted(k for k, on in modes.items() if k.startswith("pooling_mode_") and on is True)
    known: dict[str, Literal["mean", "cls"]] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
    }
    if len(chosen) != 1 or chosen[0] not in known:
        raise CapabilityError(
            f"{path}: pooling by {', '.join(chosen) or 'nothing'} is not supported; "
            f"supported: the mean over the tokens, or the first token"
        )
    return known[chosen[0]]


def _inside(folder: Path, name: str) -> Path:
    """A module's folder, which lies in the model's."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ConfigError(f"{folder / 'modules.json'}: {name!r} lies outside the folder")
    return path


def _read(path: Path, kind: type) -> Any:
    try:
        data = load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}; fetch it again") from error
    if not isinstance(data, kind):
        raise ConfigError(f"{path}: expected a {kind.__name__}; fetch it again")
    return data
