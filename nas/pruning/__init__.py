"""Which candidates are worth training: calibrated proxies against the budgets' prices."""

from nas.pruning._calibration import Calibration, choose_calibration
from nas.pruning._rungs import Line, RungJudge, RungOption, SlotOutlook, fit_lines, rung_ends
from nas.pruning._survivors import Estimate, Verdict, judge_candidates, solutions_about

__all__ = [
    "Calibration",
    "Estimate",
    "Line",
    "RungJudge",
    "RungOption",
    "SlotOutlook",
    "Verdict",
    "choose_calibration",
    "fit_lines",
    "judge_candidates",
    "rung_ends",
    "solutions_about",
]
