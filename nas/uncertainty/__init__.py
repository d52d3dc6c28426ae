"""How far a choice can be trusted, given that its scores are measurements."""

from nas.uncertainty._base import Noise, Spread
from nas.uncertainty._interval import Interval, student_quantile
from nas.uncertainty._judge import (
    Scrutiny,
    SlotCertainty,
    Uncertainty,
    judge,
    objective_intervals,
)
from nas.uncertainty._open import open_options
from nas.uncertainty._paired import compare
from nas.uncertainty._relative import RelativeNoise
from nas.uncertainty._replicates import Replicates, replicate
from nas.uncertainty._sequences import SequenceNoise, fault_in_scores
from nas.uncertainty._show import uncertainty_tables

__all__ = [
    "Interval",
    "Noise",
    "RelativeNoise",
    "Replicates",
    "Scrutiny",
    "SequenceNoise",
    "SlotCertainty",
    "Spread",
    "Uncertainty",
    "compare",
    "fault_in_scores",
    "judge",
    "objective_intervals",
    "open_options",
    "replicate",
    "student_quantile",
    "uncertainty_tables",
]
