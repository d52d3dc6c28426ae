"""Hardware profiles: YAML files that describe devices, the machine at hand, and their loader."""

from hardware_profiles._loader import list_profiles, load_profile
from hardware_profiles._local import local_profile, with_measured_figures
from hardware_profiles._profile import HardwareProfile, Link

__all__ = [
    "HardwareProfile",
    "Link",
    "list_profiles",
    "load_profile",
    "local_profile",
    "with_measured_figures",
]
