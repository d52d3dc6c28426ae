"""The verbs and options of the command line: a change here is a change for users."""

from __future__ import annotations

import click

from nas.cli import main
from nas.cli._passes import PASS_VERBS
from nas.cli._proxies import proxies as PROXIES
from nas.compiler import PASSES

FORMAT, QUIET, SET = "-f --format", "-q --quiet", "--set"
ON_RUN = ["run", QUIET, SET]
LIBRARY = [
    *("--library", "--objective", "--max", "--min", "--solutions", "--differ"),
    *("--diverse", "--time-limit", "--solver", "--sweep", "--confidence", "--noise", "--resamples"),
]
VERBS = {
    "init": ["file"],
    "ls": [FORMAT, "--runs", "kind"],
    "doctor": ["--config", FORMAT, SET],
    "validate": ["configs", FORMAT, SET],
    "plan": ["config", FORMAT, SET],
    "run": [
        *("config", "--dry-run", "--from", "--output", QUIET, SET, "--to"),
        *("--executor", "--unit-timeout", "--threads", "--continue-on-error"),
    ],
    "status": [FORMAT, "run"],
    "show": [
        *(FORMAT, "name", "--layer-info", "--layers"),
        *("--phase", "--slot", "--timings", "what"),
    ],
    "diff": [FORMAT, "left", "right"],
    "space": ON_RUN,
    "measure": [*ON_RUN, FORMAT, "--calibrate", "--output", "--pack"],
    "prune": ON_RUN,
    "build": ON_RUN,
    "score": [*ON_RUN, "--until-certain"],
    "solve": [*ON_RUN, FORMAT, *LIBRARY],
    "search": [
        *("--space", "--proxy", "--teacher", "--data", "--max", "--costs", "--trials"),
        *("--strategy", "--journal", "--inits", "--batch", "--seed", "--combine"),
        *("--distill", "--distill-objective", "--save", FORMAT, QUIET),
    ],
    "proxies": [],
    "autodistil": [
        *("--teacher", "--text", "--output", "--space", "--sub-spaces", "--steps", "--batch"),
        *("--tokens", "--learning-rate", "--relation-heads", "--similarity-weight", "--max"),
        *("--speedup", "--timed-batch", "--threads", "--pairs", "--trials", "--finish"),
        *("--seed", "--device", FORMAT, QUIET),
    ],
    "refine": ON_RUN,
    "assemble": ON_RUN,
    "distill": ON_RUN,
    "export": ON_RUN,
    "profile": ON_RUN,
    "evaluate": [*ON_RUN, "--limit", "--lm-eval", "--task"],
    "report": ON_RUN,
}
PROXY_VERBS = {
    "ls": [FORMAT],
    "bench": [
        *("table", "--accuracy", "--architecture", "--group", "--size", "--scores", "--combine"),
        "--choose",
        *("--space", "--proxy", "--data", "--teacher", "--other-teacher", "--controls", "--sample"),
        *("--inits", "--batch", "--seed", "--log", "--within", "--top", "--resamples"),
        *(FORMAT, QUIET),
    ],
}


def names_of(command: click.Command) -> list[str]:
    return sorted(
        " ".join(p.opts) if p.param_type_name == "option" else p.name for p in command.params
    )


def test_verbs_and_options_are_these() -> None:
    found = {name: names_of(command) for name, command in main.commands.items()}

    assert found == {name: sorted(options) for name, options in VERBS.items()}


def test_verbs_of_proxies_are_these() -> None:
    found = {name: names_of(command) for name, command in PROXIES.commands.items()}

    assert found == {name: sorted(options) for name, options in PROXY_VERBS.items()}


def test_options_before_the_verb_are_these() -> None:
    assert names_of(main) == sorted(["--version", QUIET])


def test_every_verb_stands_in_one_section_of_the_help() -> None:
    listed = [name for names in main.sections.values() for name in names]

    assert sorted(listed) == sorted(VERBS)


def test_every_pass_has_a_verb_with_its_title() -> None:
    titles = {step.name: step.title for step in PASSES}

    assert titles == {**titles, **PASS_VERBS}
    assert list(titles) == list(main.sections["One pass of a run"])


def test_every_verb_and_option_is_explained() -> None:
    for name, command in {**main.commands, **PROXIES.commands}.items():
        assert command.help, name
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert all(option.help for option in options), name
