"""Training-free proxies: scores of untrained networks, higher is better."""

from nas.proxies._accuracies import Accuracies, read_accuracies
from nas.proxies._autodistil import AutoDistil, AutoDistilMse
from nas.proxies._base import AttentionVectors, Batch, Proxy, TeacherView, Trial
from nas.proxies._choice import choose, combinations
from nas.proxies._combination import Combination
from nas.proxies._controls import PixelGram, noise_pictures, random_labels
from nas.proxies._depth import Depth
from nas.proxies._diswot import Diswot, DiswotRelation, DiswotSemantic
from nas.proxies._evaluate import Score, ScoreTable, evaluate, measure, warm_up
from nas.proxies._expressivity import Expressivity, Progressivity
from nas.proxies._flops import Flops
from nas.proxies._grad_norm import GradNorm
from nas.proxies._jacov import Jacov
from nas.proxies._judge import Judgement, Verdict, judge, verdict_rows, verdict_tables
from nas.proxies._log import ScoreLog, read_scores
from nas.proxies._nwot import Nwot
from nas.proxies._params import Params, parameters
from nas.proxies._registry import (
    ProxyCard,
    create_proxy,
    describe_proxies,
    list_proxies,
    proxy_tables,
)
from nas.proxies._scoring import Sitting, columns_of, score_networks, with_controls
from nas.proxies._snip import Snip
from nas.proxies._statistics import (
    Interval,
    Matched,
    kendall,
    matched_pairs,
    partial,
    spearman,
    split_groups,
    top_regret,
)
from nas.proxies._synflow import LiveParams, SynFlow
from nas.proxies._teacher_cka import TeacherCka
from nas.proxies._trainability import Trainability
from nas.proxies._zen import Zen
from nas.proxies._zico import ZiCo

__all__ = [
    "Accuracies",
    "AttentionVectors",
    "AutoDistil",
    "AutoDistilMse",
    "Batch",
    "Combination",
    "Depth",
    "Diswot",
    "DiswotRelation",
    "DiswotSemantic",
    "Expressivity",
    "Flops",
    "GradNorm",
    "Interval",
    "Jacov",
    "Judgement",
    "LiveParams",
    "Matched",
    "Nwot",
    "Params",
    "PixelGram",
    "Progressivity",
    "Proxy",
    "ProxyCard",
    "Score",
    "ScoreLog",
    "ScoreTable",
    "Sitting",
    "Snip",
    "SynFlow",
    "TeacherCka",
    "TeacherView",
    "Trainability",
    "Trial",
    "Verdict",
    "Zen",
    "ZiCo",
    "choose",
    "columns_of",
    "combinations",
    "create_proxy",
    "describe_proxies",
    "evaluate",
    "judge",
    "kendall",
    "list_proxies",
    "matched_pairs",
    "measure",
    "noise_pictures",
    "parameters",
    "partial",
    "proxy_tables",
    "random_labels",
    "read_accuracies",
    "read_scores",
    "score_networks",
    "spearman",
    "split_groups",
    "top_regret",
    "verdict_rows",
    "verdict_tables",
    "warm_up",
    "with_controls",
]
