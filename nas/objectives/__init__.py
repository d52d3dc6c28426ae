"""What distillation and scoring measure."""

from nas.objectives._kl import ReferenceKl, cosine_distance, head_gradients, head_kl

__all__ = ["ReferenceKl", "cosine_distance", "head_gradients", "head_kl"]
