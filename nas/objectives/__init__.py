"""What distillation and scoring measure."""

from nas.objectives._diswot import relation_loss, semantic_loss
from nas.objectives._head import HeadGoal, head_gradients, head_kl
from nas.objectives._kl import ReferenceKl, cosine_distance

__all__ = [
    "HeadGoal",
    "ReferenceKl",
    "cosine_distance",
    "head_gradients",
    "head_kl",
    "relation_loss",
    "semantic_loss",
]
