"""How the library is made: which candidates are trained, how, and by what they are judged."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from nas.config._section import Section


class PruneConfig(Section):
    """Which candidates are worth training, decided before any is: at most the share `keep` of them
    (1: nothing is pruned and no draft is made).

    The drafts of the share `trials`, those that the choice hangs on, are run in the network;
    `calibrate` of them are finished (where `build.epochs` says that blocks are trained) and say
    what training changes. Intervals hold at `confidence`. The budgets count as they are and tighter
    and looser by `reach`; `cells` is the number of parts by cost of which the best are kept first;
    `draws` is as in `score`."""

    keep: float = Field(default=1.0, gt=0, le=1)
    trials: float = Field(default=0.2, gt=0, le=1)
    calibrate: int = Field(default=8, ge=4)
    confidence: float = Field(default=0.8, ge=0.5, lt=1)
    reach: float = Field(default=0.0, ge=0, lt=1)
    cells: PositiveInt = 3
    draws: PositiveInt = 12


class BuildConfig(Section):
    """Closed forms on `tokens`, then blockwise local distillation for `epochs` over the same
    activations (0: closed forms only). The last `held_out_fraction` judges both.

    With `rungs` above 1 local distillation pauses that many times, the end included, each time
    after `rung_factor` times as many steps: candidates that can no longer enter a solution inside
    the budgets stop and stay as they are. Intervals and prices are those of pruning, so
    `prune.keep` must be below 1. A block that learns all the way is the same with and without."""

    tokens: PositiveInt = 32768
    held_out_fraction: float = Field(default=0.125, gt=0, lt=0.9)
    ridge: PositiveFloat = 1e-4
    epochs: int = Field(default=0, ge=0)
    batch_tokens: PositiveInt = 1024
    learning_rate: PositiveFloat = 3e-4
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    rungs: PositiveInt = 1
    rung_factor: float = Field(default=2.0, gt=1)


class ObjectiveConfig(Section):
    """What of an encoder of texts is kept near the teacher's: 1 - cos of embeddings, plus
    `similarity_weight` times the squared error of a text's similarities with others, relative to
    their variance (nearly one less the correlation of all similarities). Scores, refinement, refit
    and depth cuts go by it; distillation has a weight of its own."""

    similarity_weight: float = Field(default=1.0, ge=0)


class ScoreConfig(Section):
    """`replace_one`: KL(teacher || teacher with one block swapped), computed from the slot on.
    `one_backward`: the same to second order, for all candidates at once, from `draws` backward
    passes over the scoring text with labels drawn from the teacher. `focused`: one_backward for
    all, replace_one for at most the share `focus_share` of them, where the choice under the
    budgets hangs on it; what is seen there corrects the others.

    `until_certain` (with `replace_one`): `race_sequences` at a time, and only candidates that could
    still be chosen under the budgets go on to the next; one is out when paired differences say so
    at `race_confidence`."""

    method: Literal["replace_one", "one_backward", "focused"] = "replace_one"
    batch_sequences: PositiveInt = 8
    draws: PositiveInt = 8
    focus_share: float = Field(default=0.2, gt=0, le=1)
    until_certain: bool = False
    race_sequences: int = Field(default=4, ge=2)
    race_confidence: float = Field(default=0.9, ge=0.5, lt=1)

    @model_validator(mode="after")
    def _races_by_swaps(self) -> Self:
        if self.until_certain and self.method != "replace_one":
            raise ValueError(
                f"score.until_certain needs score.method: replace_one (found {self.method}); "
                "set it, or leave until_certain out"
            )
        return self
