"""Which candidates are worth training: calibrated proxies against the budgets' prices."""

from nas.pruning._calibration import Calibration, choose_calibration
from nas.pruning._survivors import Estimate, Verdict, judge_candidates

__all__ = ["Calibration", "Estimate", "Verdict", "choose_calibration", "judge_candidates"]
