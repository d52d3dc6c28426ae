"""Profiles load, say where their figures come from, and fail with a hint."""

from __future__ import annotations

import pytest

from hardware_profiles import (
    HardwareProfile,
    Link,
    list_profiles,
    load_profile,
    with_measured_figures,
)
from nas.errors import ConfigError


@pytest.mark.parametrize("name", list_profiles())
def test_every_profile_loads_under_its_own_name(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert (profile.sm is None) == (profile.kind == "cpu")


@pytest.mark.parametrize("name", [name for name in list_profiles() if name != "local"])
def test_every_figure_has_a_source(name: str) -> None:
    profile = load_profile(name)
    figures = {
        "memory_gib",
        "bandwidth_gb_per_s",
        "peak_tflops",
        "efficiency",
        "launch_overhead_us",
        "width_multiple",
        "link",
    }
    assert figures <= profile.sources.keys()


def test_expected_devices_are_there() -> None:
    gpus = {"h100-sxm", "h200", "a100-40", "a100-80", "l40s", "l4", "a10", "t4", "rtx3090"}
    small = {"rtx4090", "rtx5090", "jetson-agx-orin"}
    cpus = {"local", "apple-m2", "x86-avx2", "x86-avx512", "x86-avx512-amx"}
    assert gpus | small | cpus == set(list_profiles())
    assert load_profile("rtx4090").sm == 89


def test_links_are_known_where_devices_are_joined() -> None:
    links = {name: load_profile(name).link for name in list_profiles()}
    alone = {name for name, link in links.items() if link is None}
    assert alone == {name for name in links if load_profile(name).kind == "cpu"} | {
        "jetson-agx-orin"
    }
    assert links["h100-sxm"] == Link(kind="NVLink 4", gb_per_s=900)


def test_a_link_needs_a_rate(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nlink: {kind: wire}\n")
    with pytest.raises(ConfigError, match=r"link\.gb_per_s: Field required"):
        load_profile(path)


def test_local_is_read_from_this_machine_without_figures() -> None:
    profile = load_profile("local")
    assert profile.kind == "cpu"
    assert profile.cores
    assert profile.memory_gib > 0
    assert profile.peak_tflops == {}
    with pytest.raises(ConfigError, match="bandwidth_gb_per_s is not known"):
        profile.bandwidth_bytes_per_s()


def test_local_figures_are_measured_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware_profiles._local._best_seconds", lambda work: 0.5)
    profile = with_measured_figures(load_profile("local"))
    assert profile.peak_flops_per_s("float32") == pytest.approx(2 * 1536**3 / 0.5)
    assert profile.bandwidth_bytes_per_s() == pytest.approx(2**29 / 0.5)
    assert "measured here" in profile.sources["bandwidth_gb_per_s"]


def test_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean rtx4090"):
        load_profile("rtx-4090")


def test_unknown_dtype_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no bfloat16; it has float32, float16"):
        load_profile("t4").peak_flops_per_s("bfloat16")


def test_profile_from_a_file(tmp_path) -> None:
    data = load_profile("l40s").model_dump(mode="json")
    import yaml

    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**data, "name": "mine"}))
    assert load_profile(path) == HardwareProfile.model_validate({**data, "name": "mine"})


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: x\nbandwith: 3", "bandwith"), ("{", "not valid YAML"), ("", "profile")],
)
def test_bad_files_are_refused_by_name(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_profile(str(path))
