"""The report from the command line: at the end of the chain, in the middle of the chain, and without any result."""

import re

from tests.pipeline.conftest import made_again


def states(place):
    text = (place.exp / "report/index.html").read_text()
    return dict(re.findall(r'<th scope="row">(\w+(?::\w+)?)</th>\s*<td><span class="state \w+">. (\w+)<', text))


def test_the_run_ends_with_a_report(finished_chain):
    text = (finished_chain / "exp/report/index.html").read_text()
    assert "19 of 19" in text and "report       exp/report/index.html" in (finished_chain / "output.txt").read_text()
    assert "drawn sample" in text and "[pretrain] epochs" in text and "(published)" not in text
    pictures = {path.name for path in (finished_chain / "exp/report").iterdir()}
    assert {"curves_mpii.svg", "pck_penn_action.svg", "predictions.png"} <= pictures
    assert "worst-penn_action_cropped-evaluate-finetuned-test.png" in pictures


def test_a_report_shows_where_the_chain_stands(place):
    place.set("[finetune]\nlearning_rate = 0.0001\n")
    (place.exp / "report/from_before").write_text("")
    (place.exp / "report.partial").mkdir()  # a folder that a killed process has left
    assert "report/index.html" in place.run("report", "--config", "profile.cfg")
    found = states(place)
    assert found["FinetunePenn"] == found["CompareAccuracy"] == "stale" and found["PretrainMpii"] == "done"
    assert "learning_rate 0.002 -&gt; 0.0001" in (place.exp / "report/index.html").read_text()
    assert not (place.exp / "report/from_before").exists() and not (place.exp / "report.partial").exists()
    place.run("clean", "--others", "--yes")
    assert (place.exp / "report/index.html").exists()


def test_accuracies_of_stale_results_are_not_shown(place):
    folder = (place.exp / "mpii/evaluate-finetuned").resolve()
    (folder / "another.txt").write_text("")
    made_again(folder)
    place.run("report")
    text = (place.exp / "report/index.html").read_text()
    assert states(place)["CompareAccuracy"] == "stale" and states(place)["EvaluateMpii:finetuned"] == "done"
    assert "CompareAccuracy is not done" in text and "PCKh@0.5, before and after" not in text
    assert "mpii/evaluate-finetuned, valid" in text


def test_before_anything_is_done_everything_is_missing(empty):
    empty.run("report")
    assert set(states(empty).values()) == {"missing"} and len(states(empty)) == 19


def test_a_folder_that_cannot_be_written_is_named(empty):
    (empty.folder / "exp").write_text("a file")
    assert "exp cannot be used as the folder of results" in empty.run("report", code=20)
