"""Searching a space of whole students by training-free proxies, under limits on their costs.

answer = search(SearchRequest("diswot-s0", proxies=("synflow",), limits=("params_m=0.3",)))
answer.ranked[0].architecture
"""

from nas.search._answer import Ranked, SearchAnswer, answer_tables
from nas.search._arena import Arena, Scored
from nas.search._base import Strategy
from nas.search._distill import Distilled, Recipe, distill
from nas.search._evolution import Evolution
from nas.search._exhaustive import Exhaustive
from nas.search._nsga2 import Nsga2
from nas.search._registry import create_strategy, list_strategies
from nas.search._search import SearchRequest, search

__all__ = [
    "Arena",
    "Distilled",
    "Evolution",
    "Exhaustive",
    "Nsga2",
    "Ranked",
    "Recipe",
    "Scored",
    "SearchAnswer",
    "SearchRequest",
    "Strategy",
    "answer_tables",
    "create_strategy",
    "distill",
    "list_strategies",
    "search",
]
