"""Whole networks that a search builds, trains and scores: one builder a family."""

from nas.networks._base import EncoderNetwork, ImageNetwork
from nas.networks._bert import BertEncoder, BertSpec
from nas.networks._cell import OPERATIONS, Cell
from nas.networks._cifar_resnet import (
    CifarResNet,
    CifarResNetSpec,
    resnet_from_key,
    resnet_from_state,
    resnet_state,
)
from nas.networks._nasbench201 import NasBench201Network, NasBench201Spec
from nas.networks._seed import seeded
from nas.networks._spec import NetworkSize, NetworkSpec
from nas.networks._teacher import is_trained, load_encoder_teacher, load_image_teacher

__all__ = [
    "OPERATIONS",
    "BertEncoder",
    "BertSpec",
    "Cell",
    "CifarResNet",
    "CifarResNetSpec",
    "EncoderNetwork",
    "ImageNetwork",
    "NasBench201Network",
    "NasBench201Spec",
    "NetworkSize",
    "NetworkSpec",
    "is_trained",
    "load_encoder_teacher",
    "load_image_teacher",
    "resnet_from_key",
    "resnet_from_state",
    "resnet_state",
    "seeded",
]
