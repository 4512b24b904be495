"""Answers on disk: kept line by line, found again, torn lines mended, changed questions asked anew."""

import json

import pytest
from PIL import Image

from mpcc.build.answers import (
    GIVE_UP,
    AnswerLog,
    Decoding,
    Prompt,
    RespondentError,
    Unanswered,
    file_stem,
    interview,
    query_key,
)

PAIRS = [{"id": f"p{i}", "file_name": f"{i}.jpg", "bbox": [1, 2, 3, i], "category_name": "dog"} for i in range(4)]


class Scripted:
    """Answers in the order given, and stops after `limit`."""

    name, identity = "api:m@http://x", "one"

    def __init__(self, order=1, limit=None):
        self.asked, self.order, self.limit = [], order, limit

    def ask(self, queries, decoding, keep):
        for query in list(queries)[:: self.order]:
            if self.limit is not None and len(self.asked) == self.limit:
                raise RuntimeError("killed")
            self.asked.append((query.id, query.slot))
            keep(query, f"{query.prompt.question} {query.id} {query.slot}")


GREEDY = Decoding(32)


def ask(who, folder, question="what?", decoding=GREEDY, pairs=PAIRS, picture="one"):
    return interview("screen", who, [Prompt(p, question) for p in pairs], decoding, lambda p: Image.new("RGB", (8, 8)),
                     lambda p: picture, folder)


def test_answers_come_in_the_order_of_the_prompts(tmp_path):
    expected = [[f"what? p{i} 0"] for i in range(4)]
    assert ask(Scripted(), tmp_path / "a") == ask(Scripted(order=-1), tmp_path / "b") == expected


def test_nothing_is_asked_twice(tmp_path):
    first = Scripted(limit=2)
    with pytest.raises(RuntimeError):
        ask(first, tmp_path)
    second, third = Scripted(), Scripted()
    assert ask(second, tmp_path) == ask(third, tmp_path)
    assert first.asked + second.asked == [(f"p{i}", 0) for i in range(4)] and third.asked == []


def test_what_changes_is_asked_anew(tmp_path):
    ask(Scripted(), tmp_path)
    for changes in ({"question": "why?"}, {"decoding": Decoding(33)}, {"decoding": Decoding(32, temperature=1.0)},
                    {"decoding": Decoding(32, temperature=1.0, seed=1)},
                    {"pairs": [p | {"bbox": [0, 0, 9, 9]} for p in PAIRS]}, {"picture": "two"}):
        who = Scripted()
        ask(who, tmp_path, **changes)
        assert len(who.asked) == 4, changes
    who = Scripted()
    ask(who, tmp_path, pairs=[p | {"rating": 3} for p in PAIRS])  # nobody is shown this
    assert who.asked == []


def test_another_model_under_the_same_name_is_asked_anew(tmp_path):
    ask(Scripted(), tmp_path)
    who = Scripted()
    who.identity = "two"
    ask(who, tmp_path)
    assert len(who.asked) == 4


def test_what_was_not_answered_is_no_answer_and_is_asked_again(tmp_path):
    class Silent(Scripted):
        def ask(self, queries, decoding, keep):
            for query in queries:
                self.asked.append((query.id, query.slot))
                keep(query, Unanswered("empty") if query.id == "p2" else "text")

    assert ask(Silent(), tmp_path) == [["text"], ["text"], [None], ["text"]]
    assert "p2" not in next(tmp_path.glob("*.jsonl")).read_text()
    again = Scripted()
    assert ask(again, tmp_path)[2] == ["what? p2 0"] and again.asked == [("p2", 0)]


def test_who_answers_nothing_is_soon_asked_no_more(tmp_path):
    class Silent(Scripted):
        def ask(self, queries, decoding, keep):
            for query in queries:
                self.asked.append(query.id)
                keep(query, Unanswered("cut off at 32 new tokens"))

    who, pairs = Silent(), [p | {"id": f"{p['id']}-{i}"} for i in range(9) for p in PAIRS]
    with pytest.raises(RespondentError, match="api:m@http://x: p3-1 and 7 more questions of screen .* cut off at 32"):
        ask(who, tmp_path, pairs=pairs)
    assert len(who.asked) == GIVE_UP
    ask(Scripted(), tmp_path, pairs=pairs[:1])
    assert ask(who, tmp_path, pairs=pairs)[1:] == [[None]] * 35, "one that has answered may stay silent"


@pytest.mark.parametrize("line", ['{"prompt": "k", "answer": "x"}', '{"id": 7, "prompt": "k", "answer": "x"}',
                                  '{"id": "p1", "prompt": "k", "answer": null}', "[1]", "7", "[" * 100_000])
def test_a_line_that_is_no_answer_is_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": "p1", "prompt": "k", "answer": "x"}\n' + line + "\n")
    with pytest.raises(ValueError, match="log.jsonl: line 2.* is not .*: remove it, or the file"):
        AnswerLog(path)


def test_more_samples_keep_those_there_are(tmp_path):
    ask(Scripted(), tmp_path, decoding=Decoding(32, temperature=1.0, samples=2))
    who = Scripted()
    answers = ask(who, tmp_path, decoding=Decoding(32, temperature=1.0, samples=3))
    assert who.asked == [(f"p{i}", 2) for i in range(4)]
    assert answers[1] == ["what? p1 0", "what? p1 1", "what? p1 2"]


def test_greedy_answers_do_not_depend_on_the_seed():
    prompt = Prompt(PAIRS[0], "what?")
    assert query_key(prompt, Decoding(32), 0) == query_key(prompt, Decoding(32, seed=5), 0)


def test_a_torn_last_line_is_taken_off(tmp_path):
    path = tmp_path / "log.jsonl"
    log = AnswerLog(path)
    log.keep("p1", "k", "two\nlines, \u2028 and ünïcode")
    log.close()
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        log = AnswerLog(path)
        assert log.answers == {("p1", "k"): "two\nlines, \u2028 and ünïcode"}
        log.keep("p2", "k", "next")
        log.close()
        assert len([json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]) == 2


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": "p1", "prompt": "k", "answer": "x"}\n{"id": "p1", "pro\n{}\n')
    with pytest.raises(ValueError, match="log.jsonl: line 2 is not a JSON object"):
        AnswerLog(path)


def test_what_no_file_can_hold_is_replaced_at_once(tmp_path):
    path = tmp_path / "log.jsonl"
    log = AnswerLog(path)
    log.keep("p1", "k", "half \ud83d emoji")
    log.close()
    assert log.answers == AnswerLog(path).answers == {("p1", "k"): "half ? emoji"}


def test_an_answer_is_on_disk_when_keep_returns(tmp_path):
    log = AnswerLog(tmp_path / "log.jsonl")
    for i in range(3):
        log.keep(f"p{i}", "k", "x")
        assert (tmp_path / "log.jsonl").read_bytes().count(b"\n") == i + 1
    log.close()


def test_respondents_have_files_of_their_own():
    names = ["local:/a/model", "local:/b/model", "api:org/m@http://x/v1", "api:org/m@http://y/v1", "local:" + "x" * 300]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == 5 and all(len(stem) < 60 and "/" not in stem and ":" not in stem for stem in stems)
    assert [stem.rpartition("-")[0] for stem in stems[:3]] == ["local-model", "local-model", "api-m"]


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"samples": 0}, {"temperature": -1.0},
                                     {"temperature": float("nan")}, {"samples": 2}])
def test_impossible_decodings_are_refused(options):
    with pytest.raises(ValueError, match="at least|all the same"):
        Decoding(**({"max_new_tokens": 8} | options))
