"""Rungs of training: which candidates of a slot can no longer enter a solution, and stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from nas.ir import Option
from nas.pruning._calibration import Calibration
from nas.pruning._survivors import Estimate, reason_against

Line = tuple[float, float, float]
"""Scale, power and factor of a `Calibration`."""


class RungOption(BaseModel):
    """An option of a slot as pruning sees it: what it costs where a budget counts, the interval of
    its trained loss, and that of its draft (None where training has nothing left to say: the
    teacher's block, a finished trial)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    costs: dict[str, float]
    estimate: tuple[float, float, float]
    draft: tuple[float, float, float] | None = None


class SlotOutlook(BaseModel):
    """What a slot's candidates are judged by while they train: plain data, which travels.

    `prices`: of the budgets, in each solution about them; `gap`: the most that such a solution lies
    above its Lagrangian bound. `lines`: after each rung but the last, scale, power and factor of
    the line from a draft's loss times what training has left of its error, to the trained loss;
    none where too few trials tell. `factor`: that of the line that pruning went by. `spared`:
    variants that never stop, for somebody else needs them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: tuple[RungOption, ...]
    prices: tuple[dict[str, float], ...]
    gap: float
    factor: float
    lines: tuple[Line, ...]
    spared: tuple[str, ...] = ()


class RungJudge:
    """Follows the candidates of a slot from rung to rung."""

    def __init__(self, outlook: SlotOutlook) -> None:
        self._outlook = outlook
        self._known = {o.variant: Estimate(*o.estimate) for o in outlook.options}
        self._drafts = {o.variant: Estimate(*o.draft) for o in outlook.options if o.draft}
        self._options = [
            Option(variant=o.variant, loss=max(0.0, o.estimate[0]), costs=o.costs)
            for o in outlook.options
        ]

    def after(self, rung: int, left: Mapping[str, float]) -> dict[str, str]:
        """Variant -> why it stops, of the dominated and the hopeless among `left`: variants still
        in training -> share of the draft's held-out error that is left.

        The rule is that of pruning, with intervals that know of the rung. What has stopped keeps
        the interval it had. A rung that tells less than pruning knew stops nobody.
        """
        lines, outlook = self._outlook.lines, self._outlook
        if rung >= len(lines) or lines[rung][2] >= outlook.factor:
            return {}
        calibration = Calibration(*lines[rung])
        for variant in left.keys() & self._drafts.keys():
            self._known[variant] = seen_from(calibration, self._drafts[variant], left[variant])
        judged = [o for o in self._options if o.variant in left.keys() - set(outlook.spared)]
        found = {
            o.variant: reason_against(o, self._options, self._known, outlook.prices, outlook.gap)
            for o in judged
        }
        return {variant: reason for variant, reason in found.items() if reason}


def seen_from(calibration: Calibration, draft: Estimate, left: float) -> Estimate:
    """The trained loss to expect of a draft of which training has `left` a share of the error."""
    losses = [max(v, 0.0) * max(left, 0.0) for v in (draft.point, draft.low, draft.high)]
    point, low, high = (float(calibration.predict(np.array(loss))) for loss in losses)
    factor = calibration.factor
    return Estimate(point, min(point, low) / factor, max(point, high) * factor)


def rung_ends(steps: int, rungs: int, factor: float) -> list[int]:
    """Steps after which each of `rungs` ends, the last after all `steps`; each is `factor` times as
    far as the one before. Rungs that would end where another does are left out."""
    ends = (max(1, round(steps / factor ** (rungs - 1 - rung))) for rung in range(rungs))
    return sorted(set(ends))


def fit_lines(
    drafts: Sequence[float],
    left: Sequence[Sequence[float]],
    truth: Sequence[float],
    confidence: float,
) -> tuple[Line, ...]:
    """The lines of a `SlotOutlook`, by trials: the loss of each draft, what each rung but the last
    left of its error [trials, rungs - 1], and the loss of the finished block. None with less than 4
    trials."""
    if len(drafts) < 4:
        return ()
    found: list[Line] = []
    for shares in zip(*left, strict=True):
        proxies = [loss * share for loss, share in zip(drafts, shares, strict=True)]
        line = Calibration.fit(proxies, truth, confidence)
        found.append((line.scale, line.power, line.factor))
    return tuple(found)
