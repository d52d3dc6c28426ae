"""Passes: one module each, from artefacts to an artefact."""

from nas.passes._artefacts import Artefacts
from nas.passes._context import PassContext

__all__ = ["Artefacts", "PassContext"]
