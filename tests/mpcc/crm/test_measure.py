"""Cases asked and scored: what a record holds, and what it costs."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from minigrpo import Sampling, generate, pack
from mpcc.crm.attribution import encode_views
from mpcc.crm.measure import measure
from mpcc.crm.records import attributed, told
from mpcc.crm.regions import Region

TOKENS = 6
GREEDY = Sampling(TOKENS, temperature=0.0)
ANNOTATED = (("A cup. It is there.", (0,)), ("So a saddle.", (0, 1)))


def test_a_view_masks_its_region_and_the_hidden_object_stays_hidden(case):
    whole, cup, saddle, control = map(np.asarray, case.views("mean"))
    for view, (x, y, w, h) in ((cup, (0, 0, 28, 28)), (saddle, (56, 0, 56, 40)), (control, (84, 56, 28, 28))):
        changed = (view != whole).any(-1)
        assert changed[y : y + h, x : x + w].mean() > 0.9
        changed[y : y + h, x : x + w] = False
        assert not changed.any()
        assert (view[45:65, 30:50] == 0).all()


def test_a_record_holds_every_trace_and_what_each_region_is_worth_to_each_step(case, policy):
    (record,) = measure(policy, [case], None, "mean", GREEDY, samples=2)
    scored = record["scored"]
    count = len(scored["steps"])
    assert (len(record["masked"]), [c is None for c in record["controls"]]) == (2, [False, True])
    assert [len(drawn) for drawn in record["samples"]] == [2, 2, 2]
    assert len(scored["delta"]) == len(scored["control"]) == len(scored["name"]) == count
    assert all(row[1] is None for row in scored["control"]) and scored["text"] == record["own"]["completion"]
    assert record["masked"][0]["aligned"] <= 1 and record["own"]["cut_off"]
    assert measure(policy, [case], None, "mean", GREEDY, samples=2) == [record], "the same every time"


def test_cases_asked_together_have_the_records_that_they_have_alone(case, policy):
    other = replace(case, id="b", regions=case.regions[:1], question="and this?")
    together = measure(policy, [case, other], None, "mean", GREEDY)
    for record, alone in zip(together, (case, other), strict=True):
        (single,) = measure(policy, [alone], None, "mean", GREEDY)
        assert [record[key] for key in ("own", "masked", "controls")] == [
            single[key] for key in ("own", "masked", "controls")]
        assert np.allclose(record["scored"]["delta"], single["scored"]["delta"], atol=1e-4)


def test_the_empty_mask_is_worth_exactly_nothing(case, policy):
    empty = replace(case, regions=(Region("nothing", (), (5, 5, 0, 0)), *case.regions))
    (record,) = measure(policy, [replace(empty, annotated=ANNOTATED)], None, "blur", GREEDY)
    assert [row[0] for row in record["scored"]["delta"]] == [0.0, 0.0] and record["scored"]["answer"][0] == 0
    assert all(value != 0 for row in record["scored"]["delta"] for value in row[1:])
    assert record["masked"][0]["completion"] == record["own"]["completion"]
    assert record["masked"][0]["aligned"] == 1


def test_an_annotated_trace_is_scored_instead_and_its_own_regions_count(case, policy):
    (record,) = measure(policy, [replace(case, annotated=ANNOTATED)], None, "mean", GREEDY)
    scored = record["scored"]
    assert scored["annotated"] and [step["names"] for step in scored["steps"]] == [[0], [0, 1]]
    assert scored["text"] == "<think> A cup. It is there.\nSo a saddle. </think><answer>dog</answer>"
    assert [scored["text"][slice(*step["chars"])] for step in scored["steps"]] == [step for step, _ in ANNOTATED]
    assert record["own"]["completion"] != scored["text"] and scored["conclusion"] is None


def test_steps_names_answer_and_conclusion_have_their_own_tokens(case, policy):
    text = "<think> A cup is left of the box. It must be a dog. </think><answer>dog</answer>"
    completion = policy.vlm.encode_completion(text)
    deltas = torch.zeros(2, len(completion))  # a token is a byte
    for region, (word, value) in enumerate((("cup", 1.0), ("dog. </think>", 2.0))):
        start = text.index(word)
        deltas[region, start : start + 3] = value
    scored = attributed(case, policy.vlm, completion, deltas, torch.full_like(deltas, torch.nan))
    assert [step["names"] for step in scored["steps"]] == [[0], []] and scored["conclusion"] == 1
    assert scored["name"] == [[1.0, 0.0], [None, None]] and scored["concluded"] == [0.0, 2.0]
    assert scored["delta"][0] == pytest.approx([3 / 26, 0], rel=0.1) and scored["answer"] == [0, 0]
    assert scored["control"] == [[None, None], [None, None]]


def test_right_is_to_the_letter_or_in_most_words(case):
    assert told(case, "<think>x</think><answer>A dog.</answer>")["right"]
    assert not told(case, "<think>x</think><answer>a dog here</answer>")["right"]
    loose = replace(case, answer="Plastic kills the sea's animals", exact=False)
    assert told(loose, "<answer>plastic kills sea animals</answer>")["right"]
    assert not told(loose, "<answer>the sea is blue</answer>")["right"] and not told(loose, "nothing")["right"]


def test_scoring_and_greedy_traces_cost_one_forward_and_one_generation_a_view(case, policy, monkeypatch):
    """For R masked pictures at most (R + 1) x (one scoring + one generation) tokens, in the tower and in the model."""
    policy.vlm.end_ids = []  # every completion has the full length
    rows = Counter()
    policy.vlm.decoder.layers[0].register_forward_pre_hook(lambda m, args: rows.update(model=args[0].shape[1]))
    policy.vlm.net.model.visual.register_forward_pre_hook(lambda m, args: rows.update(tower=len(args[0])))
    prompt = encode_views(policy, tiny.Sample("a", case.question, tuple(case.views("mean")[:1])), case.views("mean"))[0]
    (group,) = generate(policy.vlm, [prompt], 1, GREEDY)
    policy(pack([group]))
    once, masked = dict(rows), 3
    rows.clear()
    measure(policy, [case, replace(case, id="b")], None, "mean", GREEDY)
    assert rows == {name: 2 * (masked + 1) * count for name, count in once.items()}
    rows.clear()
    generate(policy.vlm, [prompt], 2, replace(GREEDY, temperature=1.0))
    drawn, named = dict(rows), 2
    rows.clear()
    measure(policy, [case], None, "mean", GREEDY, samples=2)
    assert rows == {name: (masked + 1) * count + (named + 1) * drawn[name] for name, count in once.items()}, (
        "sampled traces of a view share one prefill, and controls have none")
