"""The progress line: rewritten in place on a terminal, a few lines elsewhere."""

import sys

import pytest

from mpcc.build.progress import LINES, Progress, counted


@pytest.mark.parametrize(("total", "done"), [(95, 0), (1000, 400), (3, 0), (10, 9)])
@pytest.mark.parametrize("pause", [0, 60])
def test_a_few_lines_where_the_output_is_kept(capsys, monkeypatch, total, done, pause):
    monkeypatch.setattr("mpcc.build.progress.PAUSE", pause)
    with Progress("screen m", total, done) as progress:
        for _ in range(total - done):
            progress.tick()
    lines = capsys.readouterr().err.splitlines()
    assert (f"screen m: {done} of {total} answers are there already" in lines) == bool(done)
    assert 1 <= len(lines) <= LINES + 1
    assert len(lines) == 1 + bool(done) or not pause, "a quick stage tells its end only"
    assert lines[-1].startswith(f"screen m: {total}/{total} ") and lines[-1].endswith("0:00 left")


def test_a_terminal_shows_every_answer_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("screen m", 30, 0) as progress:
        for _ in range(30):
            progress.tick()
    shown = capsys.readouterr().err
    assert shown.count("\r\x1b[K") == 30 and shown.count("\n") == 1 and shown.endswith("\n")
    assert "screen m: 17/30 " in shown


def test_nothing_is_said_where_nothing_is_asked(capsys):
    with Progress("screen m", 0, 0):
        pass
    assert capsys.readouterr().err == ""


def test_work_is_counted_as_it_is_done(capsys, monkeypatch):
    monkeypatch.setattr("mpcc.build.progress.PAUSE", 0)
    for place, item in enumerate(counted("curate", "abc")):
        assert item == "abc"[place]
        assert capsys.readouterr().err.startswith(f"curate: {place}/3 ") is (place > 0)
    assert capsys.readouterr().err.startswith("curate: 3/3 ")
