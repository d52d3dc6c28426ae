"""What this machine can do, and what a configuration needs beyond that."""

from nas.doctor._checks import Check, examine, require_all
from nas.doctor._needs import Need, needs_of
from nas.doctor._tables import doctor_tables

__all__ = ["Check", "Need", "doctor_tables", "examine", "needs_of", "require_all"]
