"""What distillation and scoring measure."""

from nas.objectives._kl import cosine_distance, head_kl, sequence_kl

__all__ = ["cosine_distance", "head_kl", "sequence_kl"]
