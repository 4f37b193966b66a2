"""The command line, and that README says what it does."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
from small import Small

from builder import __version__, cli, errors, pipeline, select
from builder.project import Project

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| `enginematrix ([^`]+)` \|", README, re.M)


def commands(parser: argparse.ArgumentParser | None = None) -> dict[str, argparse.ArgumentParser]:
    """The commands, or those of a command."""
    actions = (parser or cli._parser())._actions
    found = [action.choices for action in actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


COMMANDS = sorted(commands())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """A project with a finished run, as the folder that we are in."""
    project = Small(tmp_path)
    project.run("1")
    monkeypatch.chdir(tmp_path)
    return project


# Help ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_names_defaults_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*filter(None, [command]), "--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 as expected" in capsys.readouterr().out
    parser = commands()[command] if command else cli._parser()
    for action in parser._actions:
        if not action.option_strings:
            continue
        assert action.help, f"{action.option_strings} has no help"
        if action.nargs != 0:  # takes a value; a plain flag is off by default
            assert "default" in action.help, f"{command} {action.option_strings} does not say its default"
        # A default that is given must be the one that is said.
        if action.nargs != 0 and action.default is not None:
            assert f"default: {action.default}" in action.help


def test_every_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\s+[A-Z]", out, re.M), command


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"enginematrix {__version__}\n"
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("arguments", [(), ("matrix",), ("family",), ("recipe",)])
def test_schema_is_a_schema(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", *arguments]) == 0
    schema = json.loads(capsys.readouterr().out)
    validator = jsonschema.validators.validator_for(schema, default=None)
    assert validator is not None, "it says which draft it is"
    validator.check_schema(schema)
    assert list(validator(schema).iter_errors({"nonsense": 1})), "it refuses something"


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("run --jobs 0", "at least 1"), ("run --jobs many", "'many' is no whole number"), ("run --jobs 1.5", "no whole number"),
        ("run --budget soon", "90s, 30m or 2h"), ("run --budget 0", "more than nothing"), ("run --budget nan", "and end"),
        ("run --budget -5m", "argument --budget"), ("run --fail-on sometimes", "invalid choice"),
        ("gc --keep-runs -1", "at least 0"), ("gc --keep-runs all", "no whole number"),
        ("rnu", "invalid choice"), ("plan --explian", "unrecognized"), ("plan --exp", "unrecognized"), ("why", "required: CELL"),
        ("schema nothing", "invalid choice"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    assert ended.value.code == errors.EXIT_USAGE
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "--group", "lost"], "lost"), (["run", "--group", "lost"], "lost"), (["report", "--group", "lost"], "lost"),
        (["plan", "--select", "modle=alpha"], "unknown field 'modle'"), (["plan", "--select", "model="], "expected a value"),
        (["plan", "--select", "model=alpha and model=beta"], "no cell fits"),
        (["why", "nothing"], "nothing"), (["show", "nothing"], "nothing"), (["repro", "nothing"], "nothing"),
        (["show", "*"], "cells"), (["lock", "--cutoff", "soon"], "write a date such as"),
        (["lock", "--update", "model=alpha"], "no field of a stack"),
        (["-f", "elsewhere.yaml", "plan"], "elsewhere.yaml: no such file"),
    ],
)  # fmt: skip
def test_bad_input(small: Small, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (small.folder / "matrix.lock").read_text()
    assert cli.main(arguments) == errors.EXIT_USAGE
    told = capsys.readouterr()
    assert words in told.err
    assert told.out == ""
    assert "Traceback" not in told.err
    assert (small.folder / "matrix.lock").read_text() == before


def test_a_bad_matrix_is_bad_input(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    small.files.write("matrix.yaml", "schema: 1\nnam: x\n")
    assert cli.main(["plan"]) == errors.EXIT_USAGE
    assert "matrix.yaml:2:1: unknown key 'nam'" in capsys.readouterr().err


def test_a_bug_is_told_from_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(options: argparse.Namespace) -> int:
        raise KeyError("oops")

    monkeypatch.setattr(cli, "_schema", broken)
    assert cli.main(["schema"]) == errors.EXIT_BUG
    assert "a bug of ours" in capsys.readouterr().err


# README --------------------------------------------------------------------------------------------------------------


def test_readmes_table_is_the_commands() -> None:
    assert sorted(line.split()[0] for line in TABLE) == COMMANDS


@pytest.mark.parametrize("line", TABLE)
def test_readmes_commands_can_be_typed(line: str) -> None:
    options = cli._parser().parse_args(shlex.split(line))
    assert callable(options.call)


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in TABLE
        if not line.startswith(
            (
                "repro",
                "locate",
                "lock",
                "images",
                "compare",
                "check",
                "diff",
                "merge",
                "recipe",
                "nightly",
                "trace",
                "bisect",
                "ci",
            )
        )
    ],
)
def test_readmes_commands_work(small: Small, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On a project where all is done: none of them may need a network or start anything."""
    cell = small.work.cells[0]
    assert cli.main(shlex.split(line.replace("CELL", cell.id))) == 0
    told = capsys.readouterr()
    assert told.out.strip(), "it says something"
    wanted = {"plan": "Nothing to do.", "run": "Nothing to do", "report": "report.html", "why": cell.id, "show": cell.id,
              "schema": '"$schema"', "gc": "freed", "doctor": "families", "facts": "gpus",
              "pick": "known stacks fit", "rules": "nothing fails", "badge": "</svg>"}  # fmt: skip
    assert wanted[line.split()[0]] in told.out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("images render", "no stack of 'group all' has an image"),
        ("images verify", "no stack of 'group all' has an image"),
        ("images", "required: COMMAND"),
        ("compare-isolation", "no image was ever made here"),
    ],
)
def test_without_images_the_commands_for_them_say_so(
    small: Small, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(shlex.split(line))
    except SystemExit as error:  # argparse's
        code = int(error.code or 0)
    assert code == errors.EXIT_USAGE
    assert words in capsys.readouterr().err


def test_readmes_options_exist() -> None:
    parsers = [
        cli._parser(),
        *commands().values(),
        *(inner for c in commands().values() for inner in commands(c).values()),
    ]
    known = {option for parser in parsers for option in parser._option_string_actions}
    used = {option for code in re.findall(r"`([^`\n]+)`", README) for option in re.findall(r"(?<!\S)--[a-z-]+", code)}
    assert len(used) >= 5
    assert used <= known


def test_readmes_selections_fit_this_matrix() -> None:
    loaded, expanded = pipeline.load(Project(matrix=ROOT / "matrix.yaml"))
    groups, selections = re.findall(r"`--group ([a-z-]+)`", README), re.findall(r"--select '([^']+)'", README)
    assert groups and selections
    assert set(groups) <= set(loaded.groups)
    for text in selections:
        assert expanded.select(text).cells, text


def test_the_helps_selections_are_selectors() -> None:
    (examples,) = re.findall(r"EXPR selects cells: (.*); also", cli.EPILOG)
    select.parse(examples)


def test_readmes_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    blocks = "\n".join(re.findall(r"^    (.+)$", README, re.M))
    used = set(re.findall(r"^make ([a-z-]+)", blocks, re.M)) | set(re.findall(r"`make ([a-z-]+)`", README))
    assert {"matrix", "test"} <= used
    assert used <= targets


@pytest.mark.parametrize("text", [README, cli.EPILOG], ids=["README", "help"])
def test_exit_codes_are_said_as_they_are(text: str) -> None:
    joined = " ".join(text.split())
    (said,) = re.findall(r"(0 as expected.*?130 interrupted)", joined)
    numbers = [int(number) for number in re.findall(r"(?:^|, )(\d+) ", said)]
    assert numbers == sorted(value for name, value in vars(errors).items() if name.startswith("EXIT_"))


def test_files_that_readme_names_are_there() -> None:
    named = set(re.findall(r"\]\(([^)#]+)\)", README))
    named |= set(re.findall(r"`((?:images|recipes|builder|tests|docs)/[^`<]*)`", README))
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
