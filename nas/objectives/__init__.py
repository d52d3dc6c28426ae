"""What distillation and scoring measure."""

from nas.objectives._attention import (
    attention_relation_loss,
    attention_relations,
    attention_vectors,
)
from nas.objectives._base import Divergence, Objective
from nas.objectives._classes import ClassObjective, Lesson
from nas.objectives._diswot import relation_loss, semantic_loss
from nas.objectives._embedding import EmbeddingObjective, similarity_metric
from nas.objectives._head import HeadGoal, head_gradients, head_kl
from nas.objectives._kl import ReferenceKl, cosine_distance
from nas.objectives._language import LanguageObjective
from nas.objectives._masked import MaskedLanguageObjective
from nas.objectives._of import lesson_for, objective_of

__all__ = [
    "ClassObjective",
    "Divergence",
    "EmbeddingObjective",
    "HeadGoal",
    "LanguageObjective",
    "Lesson",
    "MaskedLanguageObjective",
    "Objective",
    "ReferenceKl",
    "attention_relation_loss",
    "attention_relations",
    "attention_vectors",
    "cosine_distance",
    "head_gradients",
    "head_kl",
    "lesson_for",
    "objective_of",
    "relation_loss",
    "semantic_loss",
    "similarity_metric",
]
