"""Five VisArgs records and their negative set, written by hand, with pictures drawn for them."""

import json

from PIL import Image, ImageDraw

RECORDS = [
    {"url": "https://example.org/a/turtle.png?x=1",
     "visual_premises": ["A turtle swims in the sea.", "A plastic bag floats beside it."],
     "commonsense_premises": ["Turtles eat what floats.", "Plastic harms animals that eat it."],
     "conclusion": "Plastic in the sea kills turtles.",
     "b_box": [{"startX": 5, "startY": 5, "w": 40, "h": 30}, {"startX": 60, "startY": 10, "w": 30, "h": 30}],
     "reasoning_steps": ["(VP1, CP1 -> IC1): The turtle eats what floats.", "(VP2, CP2 -> IC2): The bag is a danger.",
                         "(IC1, IC2 -> C): So plastic in the sea kills turtles."]},
    {"url": "https://example.org/clock.png",
     "visual_premises": ["A clock melts.", "A man runs.", "A bird sits on a fence."],
     "commonsense_premises": ["Nobody can stop time."],
     "conclusion": "We run after time in vain.",
     "b_box": [{"startX": 0, "startY": 0, "w": 30, "h": 30}, {"startX": 35, "startY": 30, "w": 30, "h": 40},
               {"startX": 70, "startY": 0, "w": 25, "h": 20}],
     "reasoning_steps": ["(VP1, CP1 -> IC1): Time runs out.", "(VP2, IC1 -> C): He runs after time in vain."]},
    {"url": "https://example.org/tree.png",
     "visual_premises": ["A tree has a lung's form."], "commonsense_premises": ["Lungs breathe."],
     "conclusion": "Forests are the lungs of the earth.",
     "b_box": [{"startX": 20, "startY": 10, "w": 50, "h": 60}],
     "reasoning_steps": ["(VP1, CP1 → C): Forests are the earth's lungs."]},
    {"url": "https://example.org/phone.png",
     "visual_premises": ["A phone is a cage.", "A child sits in it."],
     "commonsense_premises": ["Cages hold prisoners."],
     "conclusion": "Phones imprison children.",
     "b_box": [{"startX": 10, "startY": 5, "w": 60, "h": 70}, {"startX": 30, "startY": 40, "w": 20, "h": 25}],
     "reasoning_steps": ["(VP1, CP1 -> IC1): The phone is a prison.", "(VP2, IC1 -> IC2): The child is its prisoner.",
                         "(IC2 -> C): Phones imprison children."]},
    {"url": "https://example.org/smoke.png",
     "visual_premises": ["A chimney smokes.", "A flower wilts."], "commonsense_premises": [],
     "conclusion": "Smoke makes nature die.",
     "b_box": [{"startX": 0, "startY": 0, "w": 20, "h": 60}, {"startX": 60, "startY": 40, "w": 20, "h": 30}],
     "reasoning_steps": ["(VP1 -> IC1): The air is bad.", "(VP2, IC1 -> C): Smoke makes nature die."]},
]

NEGATIVES = [
    {"url": RECORDS[0]["url"], "negativeset": [
        {"description": RECORDS[0]["conclusion"],
         "easy_vp_options": ["A clock melts.", "A turtle swims in the sea.", "A child sits there."], "easy_answer": 1,
         "hard_semantic_vp_options": ["A turtle swims in the sea.", "The sea is calm.", "The sky is grey."],
         "hard_semantic_answer": 0},
        {"description": RECORDS[0]["conclusion"],
         "easy_vp_options": ["A flower wilts.", "A man runs.", "A plastic bag floats beside it."], "easy_answer": 2,
         "hard_semantic_vp_options": ["The sky is grey.", "A plastic bag floats beside it.", "The sea is calm."],
         "hard_semantic_answer": 1}]},
    {"url": RECORDS[1]["url"], "negativeset": [
        {"description": RECORDS[1]["conclusion"],
         "easy_vp_options": ["A man runs.", "A tree has a lung's form.", "A chimney smokes."], "easy_answer": 0,
         "hard_semantic_vp_options": ["A bird sits on a fence.", "The ground is bare.", "A man runs."],
         "hard_semantic_answer": 2}]},
    {"url": RECORDS[2]["url"], "negativeset": []},
    {"url": RECORDS[3]["url"], "negativeset": [
        {"description": RECORDS[3]["conclusion"],
         "easy_vp_options": ["A flower wilts.", "A phone is a cage.", "A turtle swims."], "easy_answer": 1}]},
    {"url": RECORDS[4]["url"], "negativeset": [
        {"description": RECORDS[4]["conclusion"],
         "easy_vp_options": ["A chimney smokes.", "A clock melts.", "A man runs."], "easy_answer": 0}]},
]


def write_visargs(folder, records=RECORDS, negatives=NEGATIVES):
    """Writes visargs.json, negatives.json and `images` of 100 x 80 with the boxes in colours; the first's path."""
    (folder / "images").mkdir()
    for number, record in enumerate(RECORDS):
        picture = Image.new("RGB", (100, 80), (200, 210, 220 - 20 * number))
        for place, box in enumerate(record["b_box"]):
            x, y, w, h = (box[field] for field in ("startX", "startY", "w", "h"))
            ImageDraw.Draw(picture).ellipse((x, y, x + w - 1, y + h - 1), fill=(60 * place, 90, 30 + 40 * number))
        picture.save(folder / "images" / record["url"].partition("?")[0].rpartition("/")[2])
    (folder / "visargs.json").write_text(json.dumps(records))
    (folder / "negatives.json").write_text(json.dumps(negatives))
    return folder / "visargs.json"
