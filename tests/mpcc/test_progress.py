"""Progress bars: how far the work is, whatever the output is, and nothing where nothing is left to do."""

import pytest

from minigrpo.progress import progress_bar
from mpcc.progress import counted


@pytest.mark.parametrize(("total", "done"), [(95, 0), (3, 0), (10, 9)])
def test_a_bar_ends_with_all_the_work_done(capsys, total, done):
    with progress_bar("screen m", total, done, "answers") as bar:
        for _ in range(total - done):
            bar.update()
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("screen m: 100%") == 1 and f" {total}/{total} " in shown.err


@pytest.mark.parametrize(("total", "shown"), [(0, True), (5, False)])
def test_nothing_is_shown_where_nothing_is_to_do_or_on_another_rank(capsys, total, shown):
    with progress_bar("screen m", total, shown=shown) as bar:
        for _ in range(total):
            bar.update()
    assert capsys.readouterr().err == ""


def test_a_bar_of_work_that_is_done_already_is_not_shown(capsys):
    with progress_bar("screen m", 7, 7):
        pass
    assert capsys.readouterr().err == ""


def test_work_is_counted_as_it_is_done(capsys, monkeypatch):
    monkeypatch.setattr("minigrpo.progress.SELDOM", 0)
    for place, item in enumerate(counted("curate", "abc")):
        assert item == "abc"[place] and f" {place}/3 " in capsys.readouterr().err
    assert " 3/3 " in capsys.readouterr().err
