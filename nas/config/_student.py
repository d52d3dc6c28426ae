"""From the library to the student: its choice, its assembly and its distillation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from nas.config._section import Section

BaselineName = Literal["uniform_ffn", "uniform_ffn_within", "depth_cut", "depth_cut_within"]


class SolveConfig(Section):
    """The selection by mixed-integer program."""

    solver: str = "mip"
    time_limit_s: PositiveFloat = 60.0
    gap: PositiveFloat = 1e-6


class RefineConfig(Section):
    """Steps away from the solution of the summed scores, each confirmed by the KL it realises.

    In each of `rounds` the network is expanded to second order about the present choice, swaps and
    pairs of swaps included; the best choices within `radius` slots of it, within half as many, and
    so on, and the best `swaps` of one or two slots are realised, and the lowest is kept where its
    KL on the scoring text is lower than the present one's; a round that keeps nothing is the last.
    `options` candidates of a slot are looked at, beside the present and the teacher's block;
    `draws` is as in `score`."""

    rounds: int = Field(default=0, ge=0)
    radius: PositiveInt = 12
    swaps: int = Field(default=0, ge=0)
    options: PositiveInt = 5
    draws: PositiveInt = 6


class AssembleConfig(Section):
    """Blocks put together, then refitted on `refit_tokens` of the training text (0: not at all):
    slot by slot, the layer that writes to the residual stream is regressed towards the teacher's
    state. `ridge` penalises its change, relative to the mean square of its features. The refit is
    kept where the KL on the scoring text falls.

    Before that, attention and feed-forward of each layer where the solution replaced both may learn
    together, for `couple_epochs` (0: they do not) on `couple_tokens` of the training text: from the
    teacher's state before the layer to its state after it. A pair stays where the held-out error of
    the layer falls, all of them where the KL on the scoring text does."""

    refit_tokens: int = Field(default=32768, ge=0)
    ridge: PositiveFloat = 0.1
    couple_epochs: int = Field(default=0, ge=0)
    couple_tokens: PositiveInt = 16384
    couple_learning_rate: PositiveFloat = 1e-4

    @property
    def changes_blocks(self) -> bool:
        """Whether a student is more than the library's blocks."""
        return bool(self.refit_tokens or self.couple_epochs)


class DistillConfig(Section):
    """Global distillation: `cosine_weight` * mean over layers of (1 - cos) + `kl_weight` * KL. For
    an encoder the distance of embeddings stands in the place of the KL; `similarity_weight` is that
    of the section `objective`, here none by default: the few directions in which texts differ make
    steep and noisy gradients.

    An encoder may also learn how its tokens stand to each other: `relation_weight` * KL of the
    query, key and value relations of the attention in `relation_layer` (counted from 0, from the
    end where negative), each cut into `relation_heads` parts (MiniLMv2, arXiv 2012.15828).

    Of a classifier of pictures: `temperature` softens both sides of the KL; `standardised` brings
    logits to mean 0 and deviation 1 first; `diswot_relation_weight` and `diswot_semantic_weight`
    are those of DisWOT's metrics of the last feature maps. Pictures are moved and mirrored at
    random.

    A step's `batch_tokens` pass in pieces of `micro_batch_tokens`, which bounds the memory."""

    steps: int = Field(default=100, ge=0)
    batch_tokens: PositiveInt = 2048
    micro_batch_tokens: PositiveInt = 1024
    learning_rate: PositiveFloat = 5e-4
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    cosine_weight: float = Field(default=1.0, ge=0)
    kl_weight: float = Field(default=1.0, ge=0)
    similarity_weight: float = Field(default=0.0, ge=0)
    relation_weight: float = Field(default=0.0, ge=0)
    relation_layer: int = -1
    relation_heads: PositiveInt = 12
    temperature: PositiveFloat = 1.0
    standardised: bool = False
    diswot_relation_weight: float = Field(default=0.0, ge=0)
    diswot_semantic_weight: float = Field(default=0.0, ge=0)
    clip_norm: PositiveFloat = 1.0
    train_embeddings: bool = False
    checkpoint_every: PositiveInt = 50
