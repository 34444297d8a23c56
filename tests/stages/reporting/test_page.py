"""The page of the report: its contents, its independence of other files and servers, and its accessibility."""

import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from stages.reporting import page as report
from stages.reporting.curves import COLOURS, DARK, INK, Training, draw_training
from stages.reporting.page import Facts, Made, Setting, StageFacts
from tests.browser import dump

HOSTILE = '<script>alert("x")</script>&'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: its elements as (tag, attributes), its text, and errors in the nesting of its elements."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.wrong = [], [], "", []
        self.feed(text)
        self.close()
        self.wrong += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.text += data

    def all(self, *tags):
        return [(tag, attributes) for tag, attributes, _ in self.elements if tag in tags]


def made(seconds=75.0):
    finished = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return Made(
        2, "ab" * 32, "cd" * 32, "0123abc", seconds, finished, {"torch": "9.9", "opencv": None}, '{"fingerprint": "ab"}'
    )


@pytest.fixture
def full(tmp_path):
    """Write a report with all sections, in which names contain HTML code; return the path of its page."""
    compared, evaluated = tmp_path / "compare", tmp_path / "evaluate"
    compared.mkdir()
    evaluated.mkdir()
    tables = {
        "accuracy": ["split,people,measure,joints,before,after", "MPII valid,7,training metric,10,25.0,12.5",
                     f"MPII valid,7,{HOSTILE},14,80,"],
        "parts": ["split,measure,network,published,people,head,overall,low,high",
                  f"MPII valid,PCKh@0.5,{HOSTILE},,7.0,96.154,87.333,80,90.5", "MPII valid,PCKh@0.5,2 stacks,yes,,,88.5,,"],
        "tests": ["split,measure,network,verdict,than,difference,low,high,p,groups",
                  "MPII valid,PCKh@0.5,b,better,a,1.5,0.25,2.75,0.0312,6"],
    }  # fmt: skip
    for name, lines in tables.items():
        (compared / f"{name}.csv").write_text("\n".join(lines))
    logs = tmp_path / "training"
    logs.mkdir()
    for part in ("train", "valid"):
        (logs / f"{part}.log").write_text("epoch\tloss\tacc\tLR\n1\t0.5\t0.25\t0.1\n2\t0.25\t0.5\t0.1\n")
    draw_training(compared / "curves_penn_action", [Training(HOSTILE, logs, 0.5)])
    picture = np.full((40, 900, 3), 128, np.uint8)
    for path in (compared / "predictions.png", evaluated / "worst_test.png"):
        cv2.imwrite(str(path), picture)
    (evaluated / "failures_test.csv").write_text(
        "by,value,joints,measure,rate,median,confused\nall,all,26,PCK@0.05,92.308,1.5,8.333\n"
    )
    facts = Facts(
        title=HOSTILE, written="now", sample=True, comparison=compared, evaluations={"penn/evaluate-finetuned": evaluated},
        stages=[
            StageFacts("FetchMpii", "mpii/raw", "done", "", [], made()),
            StageFacts("CompareAccuracy", "compare", "stale", HOSTILE, ["FetchMpii"]),
        ],
        settings=[Setting("[pretrain] batch", "8", "6", True), Setting("[workspace] exp", HOSTILE, "exp", False),
                  Setting("[input] resolution", "256", "256", True)],
        sources=[("FetchMpii", HOSTILE, "sha256:12")],
    )  # fmt: skip
    (tmp_path / "report").mkdir()
    return report.write(tmp_path / "report", facts)


@pytest.fixture
def bare(tmp_path):
    """Write a report of a chain without any results; return the path of its page."""
    stages = [StageFacts("FetchMpii", "mpii/raw", "missing", "", [])]
    (tmp_path / "report").mkdir()
    return report.write(tmp_path / "report", Facts("exp", "now", stages, [Setting("[a] b", "1", "1", True)], [], False))


@pytest.fixture(params=["full", "bare"])
def page(request):
    return request.getfixturevalue(request.param)


def test_the_page_is_well_formed_and_names_are_only_text(full):
    text = full.read_text()
    page = Page(text)
    assert not page.wrong and text.startswith("<!DOCTYPE html>")
    assert not page.all("script") and page.text.count(HOSTILE) >= 4
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]


def test_nothing_comes_from_elsewhere(page):
    parsed = Page(page.read_text())
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [v for _, attributes, _ in parsed.elements for n, v in attributes.items() if n in ("href", "src", "srcset")]
    assert len(targets) >= 7
    for target in targets:
        assert target[1:] in ids if target.startswith("#") else (page.parent / target).is_file(), target
    assert "url(" not in page.read_text() and "@import" not in page.read_text()
    for path in page.parent.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        for element in root.iter():
            for name, value in element.attrib.items():
                assert not name.endswith(("href", "src")) or value.startswith("#"), value
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and "<!DOCTYPE" not in path.read_text()


def test_the_page_is_accessible(page):
    parsed = Page(page.read_text())
    assert parsed.all("html")[0][1]["lang"] == "en" and len(parsed.all("h1")) == len(parsed.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in parsed.all("h1", "h2", "h3", "h4")]
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert all(attributes.get("alt") for _, attributes in parsed.all("img"))
    assert len(parsed.all("table")) == len(parsed.all("caption")) > 0
    assert all(attributes.get("scope") in ("row", "col") for _, attributes in parsed.all("th"))
    assert any("width=device-width" in attributes.get("content", "") for _, attributes in parsed.all("meta"))


def contrast(first, second):
    """Return the contrast ratio of two colours, as the Web Content Accessibility Guidelines 2.1 define it."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_have_enough_contrast_in_light_and_dark(bare):
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in re.split(r"prefers-color-scheme", bare.read_text())]
    assert len(themes) == 2 and themes[0].keys() == themes[1].keys()
    for theme, lines in zip(themes, ({c: c for c in (*COLOURS, INK)}, DARK), strict=True):
        for name in ("ink", "soft", "accent", "good", "bad", "wait"):
            for ground in ("ground", "raised"):
                assert contrast(theme[name], theme[ground]) >= 4.5, (name, ground)
        assert contrast(theme["ink"], theme["bar"]) >= 4.5
        assert min(contrast(colour, theme["ground"]) for colour in lines.values()) >= 3


def test_the_page_has_all_parts(full):
    text = re.sub(r"\s+", " ", Page(full.read_text()).text)
    for words in (
        "1 of 2", "1 min 15 s", "✓ done", "✗ stale", "96.15", "80.00 to 90.50", "2 stacks (published)", "0.0312", "better",
        "all: all", "92.31", "drawn sample", "0123abc", "torch 9.9", "2026-01-02 03:04", "sha256:12",
    ):  # fmt: skip
        assert words in text, words
    differing, every = text.split("Settings that differ from the published recipe")[1].split("All settings", 1)
    assert "[pretrain] batch" in differing and "[workspace] exp" not in differing and "[input] resolution" not in differing
    assert "[workspace] exp" in every and "[input] resolution" in every
    assert '"fingerprint": "ab"' in (full.parent / "manifests/mpii-raw.json").read_text()


def test_the_page_without_results(bare):
    text = Page(bare.read_text()).text
    assert "0 of 1" in text and "No comparison for the current settings yet" in text and "drawn sample" not in text
    assert "have the values of the published recipe" in text


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.21, "4.2 s"), (59.99, "1 min 00 s"), (185, "3 min 05 s"), (7805, "2 h 10 min")]
)
def test_durations_are_in_words(seconds, words):
    assert report.duration(seconds) == words


# The window's load event waits for both frames and for every picture in them, and the page is dumped after that event.
CHECKS = """<body><pre id="found">nothing</pre>
<iframe width="390" height="900" src="report/opened.html"></iframe>
<iframe width="1280" height="900" src="report/opened.html"></iframe>
<script>
window.onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument;
    const sizes = [...page.images].map(i => i.naturalWidth);
    return [+frame.width, page.documentElement.scrollWidth, Math.min(...sizes), getComputedStyle(page.body).backgroundColor];
  });
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


@pytest.mark.parametrize(("theme", "ground"), [([], "rgb(255, 255, 255)"), (["--force-dark-mode"], "rgb(22, 24, 28)")])
def test_a_browser_shows_it_on_phone_and_laptop_in_light_and_dark(full, tmp_path, theme, ground):
    opened = full.read_text().replace("<details", "<details open").replace('loading="lazy"', "")
    (full.parent / "opened.html").write_text(opened)
    (tmp_path / "checks.html").write_text(CHECKS)
    shown = dump(tmp_path / "checks.html", tmp_path / "profile", *theme)
    found = re.search(r'<pre id="found">\[\[390,(\d+),(\d+),"(.*?)"\],\[1280,(\d+),(\d+),"(.*?)"\]\]</pre>', shown)
    assert found, shown[:500]
    phone, smallest, colour, laptop, smallest_there, colour_there = found.groups()
    assert int(laptop) <= 1280 and int(phone) <= 390  # the page itself does not scroll horizontally
    assert int(smallest) > 0 and int(smallest_there) > 0  # every picture is loaded
    assert colour == colour_there == ground


def test_movements_in_space_are_copied_and_linked(tmp_path):
    forecasts = tmp_path / "forecasts"
    forecasts.mkdir()
    (forecasts / "forecasts.csv").write_text("starts,forecaster,step 1\nall,zero velocity,50.0\n")
    cv2.imwrite(str(forecasts / "movements3d.png"), np.zeros((4, 4, 3), np.uint8))
    (forecasts / "movements3d.html").write_text("turn me")
    (tmp_path / "report").mkdir()
    page = report.write(tmp_path / "report", Facts("exp", "now", [], [], [], False, forecasts=forecasts))
    links = [attributes["href"] for _, attributes in Page(page.read_text()).all("a")]
    assert "movements3d.html" in links and "movements3d.png" in links
    assert (page.parent / "movements3d.html").read_text() == "turn me" and (page.parent / "movements3d.png").is_file()
