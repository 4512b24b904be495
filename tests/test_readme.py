"""What the README says of the code's size is true, and its links lead somewhere."""

import re

from running import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_lines_to_read_are_counted_right():
    rows = re.findall(r"^\| \[`[\w.]+`\]\(([\w/.]+)\) \| (\d+) \|", README, re.M)
    assert len(rows) == 11
    for path, count in rows:
        assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) == int(count), path
    total = int(re.search(r"GRPO is ([\d,]+) lines", README)[1].replace(",", ""))
    assert total == sum(int(count) for _, count in rows) < 1700


def test_its_links_lead_to_files_and_it_is_short():
    for path in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / path).exists(), path
    assert len(README.splitlines()) <= 180
