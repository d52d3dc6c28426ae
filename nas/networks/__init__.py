"""Whole networks that a search builds, trains and scores: one builder a family."""

from nas.networks._base import ImageNetwork

__all__ = ["ImageNetwork"]
