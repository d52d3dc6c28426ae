"""Which candidates to run for real, and what those that were run say of the others."""

from nas.trials._belief import Belief, believe
from nas.trials._decide import Trials, try_nearby
from nas.trials._value import value_of_knowing

__all__ = ["Belief", "Trials", "believe", "try_nearby", "value_of_knowing"]
