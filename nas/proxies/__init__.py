"""Training-free proxies: scores of untrained networks, higher is better."""

from nas.proxies._autodistil import AutoDistil, AutoDistilMse
from nas.proxies._base import Batch, Proxy, ShowsAttention, TeacherView, Trial
from nas.proxies._combination import Combination
from nas.proxies._controls import PixelGram, noise_pictures, random_labels
from nas.proxies._depth import Depth
from nas.proxies._diswot import Diswot, DiswotRelation, DiswotSemantic
from nas.proxies._evaluate import Score, ScoreTable, evaluate, measure, warm_up
from nas.proxies._expressivity import Expressivity, Progressivity
from nas.proxies._flops import Flops
from nas.proxies._grad_norm import GradNorm
from nas.proxies._jacov import Jacov
from nas.proxies._nwot import Nwot
from nas.proxies._params import Params, parameters
from nas.proxies._registry import ProxyCard, create_proxy, describe_proxies, list_proxies
from nas.proxies._snip import Snip
from nas.proxies._synflow import LiveParams, SynFlow
from nas.proxies._teacher_cka import TeacherCka
from nas.proxies._trainability import Trainability
from nas.proxies._zen import Zen
from nas.proxies._zico import ZiCo

__all__ = [
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
    "Jacov",
    "LiveParams",
    "Nwot",
    "Params",
    "PixelGram",
    "Progressivity",
    "Proxy",
    "ProxyCard",
    "Score",
    "ScoreTable",
    "ShowsAttention",
    "Snip",
    "SynFlow",
    "TeacherCka",
    "TeacherView",
    "Trainability",
    "Trial",
    "Zen",
    "ZiCo",
    "create_proxy",
    "describe_proxies",
    "evaluate",
    "list_proxies",
    "measure",
    "noise_pictures",
    "parameters",
    "random_labels",
    "warm_up",
]
