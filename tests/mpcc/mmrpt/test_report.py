"""Runs of MMRPT side by side: gains, intervals over seeds, pairs of seeds."""

import json

import pytest

from mpcc.mmrpt.report import main, read_run
from mpcc.statistics import t_quantile


def run(folder, seed, before, after, black=0.1):
    folder.mkdir()
    figures = [{"exact": exact, "exact_text": 0.3, "exact_black": black, "gap": exact - black}
               for exact in (before, after)]
    content = {"before": figures[0], "after": figures[1], "steps": 8}
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "config.toml").write_text(f"[run]\nseed = {seed}\n[task]\nvisual_weight = 1.0\n", encoding="utf-8")
    return str(folder)


def test_gains_and_pairs_of_seeds(tmp_path, capsys):
    with_term = [run(tmp_path / f"a{seed}", seed, 0.3, after) for seed, after in enumerate((0.4, 0.5))]
    without = [run(tmp_path / f"b{seed}", seed, 0.3, after) for seed, after in ((1, 0.44), (0, 0.36))]
    kept = tmp_path / "runs.json"
    assert main(["--arm", "full", *with_term, "--arm", "less", *without, "--kept", str(kept)]) == 0
    shown = capsys.readouterr().out
    full, less = (line.split() for line in shown.splitlines()[3:5])
    half = t_quantile(1) * 5.0  # gains of 10 and 20: standard error 5
    assert full[:7] == ["full", "2", "30.0", "45.0", "+15.0", f"[{15 - half:+.1f},", f"{15 + half:+.1f}]"]
    assert full[7:9] == ["30.0", "10.0"]
    half = t_quantile(1) * 1.0  # 6 against 10 with seed 0, 14 against 20 with seed 1
    assert less[-3:] == ["-5.0", f"[{-5 - half:+.1f},", f"{-5 + half:+.1f}]"]
    assert main(["--kept", str(kept)]) == 0 and capsys.readouterr().out == shown


@pytest.mark.parametrize(("argv", "said"), [
    (["--arm", "full", "nowhere"], "nowhere/result.json is missing: name the folder of a run that has ended"),
    (["--arm", "full"], "--arm full names no run"),
    (["--kept", "nowhere.json"], "nowhere.json is missing: write it with --arm"),
])
def test_what_is_missing_is_named(argv, said, capsys):
    assert main(argv) == 1 and said in capsys.readouterr().err


def test_a_run_of_another_task_is_refused(tmp_path):
    folder = run(tmp_path / "a", 0, 0.1, 0.2)
    (tmp_path / "a/result.json").write_text(json.dumps({"before": {}, "after": {"exact": 1.0}, "steps": 1}))
    with pytest.raises(ValueError, match="it is no run of MMRPT"):
        read_run(tmp_path / folder)
