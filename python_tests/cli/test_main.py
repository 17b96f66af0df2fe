"""The command line: routing, errors in one line, and an answer before torch is imported."""

from __future__ import annotations

import importlib
import json

import pytest

from svm_ext.cli import main


def test_info_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "back end" in printed
    assert "reference" in printed


def test_info_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backends"]["cpu"]["built"] is True


def test_without_a_command_it_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert "examples:" in capsys.readouterr().out


def test_unknown_command_lists_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["inform"])
    assert stop.value.code == 2
    assert "info" in capsys.readouterr().err


def test_an_error_is_one_line_and_debug_shows_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> int:
        raise ValueError("frames: expected [B, 3, H, W], got [3, 720, 1280]")

    monkeypatch.setattr(importlib.import_module("svm_ext.cli.info"), "run", fail)
    assert main.main(["info"]) == 2
    assert capsys.readouterr().err == "svm-ext info: frames: expected [B, 3, H, W], got [3, 720, 1280]\n"
    with pytest.raises(ValueError, match="frames: expected"):
        main.main(["--debug", "info"])


@pytest.mark.parametrize("command", list(main.COMMANDS))
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main([command, "--help"])
    assert stop.value.code == 0
    assert f"svm-ext {command}" in capsys.readouterr().out.partition("examples:")[2]
