"""The examples of README.md and of docs/, run on the tiny chain; only the paths of exp/ and of Python are replaced."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.pipeline.conftest import Place, finished_chain, place

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
__all__ = ["finished_chain", "place"]  # fixtures


def blocks(kind):
    return [block for page in PAGES for block in re.findall(rf"```{kind}\n(.*?)```", page.read_text(), flags=re.S)]


def commands():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in dict.fromkeys(lines) if not line.startswith(("make ", ". .venv"))]


def test_every_command(place: Place):
    (place.folder / "configs").mkdir()
    (place.folder / "configs/demo.cfg").write_text("")
    assert len(commands()) > 8
    for line in commands():
        line = line.replace("exp/demo", "exp")
        if line.startswith("python -m "):
            code, out, err = place.call(*shlex.split(line)[2:])
        else:
            line = re.sub(r"\bpython\b", shlex.quote(sys.executable), line)
            line = re.sub(r"\bluigi --module", f"{shlex.quote(sys.executable)} -m luigi --module", line)
            process = place.start("-c", f"import subprocess, sys; sys.exit(subprocess.call({line!r}, shell=True))")
            out, err = process.communicate(timeout=300)
            code = process.returncode
        assert code == 0, f"{line}\n{out}{err}"
    assert (place.folder / "slower.cfg").exists()


def test_the_answer_that_the_manual_quotes(place: Place):
    place.set("[finetune]\nlearning_rate = 0.0001\n")
    quoted = re.search(r"`(FinetunePenn is stale: [^`]*)`", (ROOT / "docs/running.md").read_text())
    assert quoted and quoted[1] in place.run("why", "FinetunePenn", "--config", "profile.cfg")


def test_python_examples(place: Place):
    place.run("run", "ExportForecast")
    code = "".join(blocks("python")) + "print(bottleneck.shape, hourglass.decode(skips, bottleneck).shape)"
    out, err = place.start("-c", code.replace("exp/demo/", "exp/")).communicate(timeout=120)
    assert (
        "(16, 13, 2)" in out
        and "torch.Size([1, 13, 8, 8])" in out
        and "torch.Size([3, 8, 2, 2]) torch.Size([3, 13, 8, 8])" in out
    ), err
    assert len(re.findall(r"left_\w+ +at +[\d.-]+, +[\d.-]+ px, confidence", out)) == 6


@pytest.mark.parametrize("block", blocks("ini"))
def test_profiles_are_legal(block):
    from tests.stages.settings.test_sections import Settings, read_sections

    Settings.from_text(read_sections(block))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_named_in_a_page_exist(page):
    for path in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / path).exists(), path
