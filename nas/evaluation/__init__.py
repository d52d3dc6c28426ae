"""Quality of students beside their teacher: text, free generation, tasks."""

from nas.evaluation._bootstrap import Retained, accuracy_retained
from nas.evaluation._classes import Accuracies, ClassQuality, class_accuracy, class_quality
from nas.evaluation._embedding import EmbeddingQuality, compare_embeddings, embedding_quality
from nas.evaluation._greedy import Agreement, compare_tokens, greedy_agreement
from nas.evaluation._items import Cloze, MultipleChoice, read_items
from nas.evaluation._language import LanguageQuality, language_quality
from nas.evaluation._lm_eval import Harness, HarnessResult
from nas.evaluation._masked import masked_quality
from nas.evaluation._pairs import Pairs, rank_pairs, read_pairs
from nas.evaluation._tasks import TaskResult, TaskScore, evaluate_task

__all__ = [
    "Accuracies",
    "Agreement",
    "ClassQuality",
    "Cloze",
    "EmbeddingQuality",
    "Harness",
    "HarnessResult",
    "LanguageQuality",
    "MultipleChoice",
    "Pairs",
    "Retained",
    "TaskResult",
    "TaskScore",
    "accuracy_retained",
    "class_accuracy",
    "class_quality",
    "compare_embeddings",
    "compare_tokens",
    "embedding_quality",
    "evaluate_task",
    "greedy_agreement",
    "language_quality",
    "masked_quality",
    "rank_pairs",
    "read_items",
    "read_pairs",
]
