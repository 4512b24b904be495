"""Records of CRM made by hand."""


def trace(steps, answer="dog", right=True, well_formed=True, **more):
    """A trace of a record: steps as (text, regions it names)."""
    return {"completion": " ".join(text for text, _ in steps), "cut_off": False, "well_formed": well_formed,
            "given": answer, "right": right, "steps": [{"text": text, "names": names} for text, names in steps]} | more


def record(id="a", delta=((2.0, 1.0), (0.0, 1.0)), control=((0.0, None), (0.5, None)), own=None):
    """A record with two regions, the second without a control, and a step that names each and a conclusion."""
    steps = [("A cup is left of the box.", [0]), ("A saddle is above the box.", [1]), ("A dog.", [])]
    own = own or trace(steps)
    same = [[i, i] for i in range(3)]
    gone = trace([("A fork is left of the box.", []), *steps[1:]], "cat", False, pairs=same, aligned=1.0)
    regions = [{"text": text, "names": [name], "box": [0, 0, 9, 9], "control": box, "relevant": True}
               for (text, _), name, box in zip(steps, ("cup", "saddle"), ([9, 9, 9, 9], None), strict=False)]
    rows = [*map(list, delta), [0.0, 0.0]]
    return {
        "id": id, "size": [100, 80], "question": "?", "truth": "dog", "regions": regions, "own": own,
        "masked": [gone, trace(steps, pairs=same, aligned=1.0)],
        "controls": [trace(steps, pairs=same, aligned=1.0), None], "samples": [],
        "scored": {"text": own["completion"], "annotated": False, "conclusion": 2,
                   "steps": [step | {"chars": [0, 5]} for step in own["steps"]], "delta": rows,
                   "control": [*map(list, control), [0.0, None]], "name": rows, "answer": [0.0, 0.0],
                   "concluded": [1.0, 2.0], "concluded_control": [0.5, None]},
    }
