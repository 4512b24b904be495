"""A training on the scenes that is killed in each of its parts ends as one that nothing disturbed."""

import killing


def test_a_killed_run_ends_with_the_metrics_and_weights_of_an_undisturbed_one(capsys):
    killing.main(["--kills", "6", "--steps", "4"])
    said = capsys.readouterr().out
    assert "'rollout': 2" in said and "the same as undisturbed, to the bit" in said
