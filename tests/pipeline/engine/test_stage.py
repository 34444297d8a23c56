"""The stage contract, tested with a small project that has nothing to do with poses."""

import os
import shutil
from pathlib import Path

import luigi
import pytest
from luigi.task_register import Register

from datasets.errors import DataError
from pipeline.engine import digests
from pipeline.engine.again import again
from pipeline.engine.digests import without_reading
from pipeline.engine.stage import Stage, with_inputs

PLACE = {"folder": Path(), "factor": 2}  # the settings of this small project


class Sums(Stage):
    """The base class of the small project's stages."""

    @property
    def exp(self):
        return PLACE["folder"] / "results"

    def command(self, words):
        return f"sums {words}"


class Read(Sums):
    """A stage that reads numbers.txt and writes one number per line."""

    result_path = "numbers"

    def external_inputs(self):
        return {"numbers": str(PLACE["folder"] / "numbers.txt")}

    def work(self, folder, inputs, report):
        words = (PLACE["folder"] / "numbers.txt").read_text().split()
        (folder / "numbers.csv").write_text("\n".join(words))
        report(1, 1)
        return {"count": len(words)}


class Add(Sums):
    """A stage that multiplies the sum of the numbers by the setting `factor`."""

    result_path = "sum"

    def settings(self):
        return {"factor": PLACE["factor"]}

    def requires(self):
        return {"numbers": Read()}

    def work(self, folder, inputs, report):
        numbers = [int(line) for line in (inputs["numbers"] / "numbers.csv").read_text().split()]
        (folder / "sum.txt").write_text(str(PLACE["factor"] * sum(numbers)))


class Double(Sums):
    """A stage that doubles the sum."""

    result_path = "double"

    def requires(self):
        return {"sum": Add()}

    def work(self, folder, inputs, report):
        (folder / "double.txt").write_text(str(2 * int((inputs["sum"] / "sum.txt").read_text())))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A function that clears Luigi's cache of tasks, as a new process would, and returns the folder with numbers.txt."""

    def new_process(factor=2):
        Register.clear_instance_cache()
        monkeypatch.setitem(PLACE, "factor", factor)
        return tmp_path

    monkeypatch.setitem(PLACE, "folder", tmp_path)
    (tmp_path / "numbers.txt").write_text("1 2 3")
    new_process()
    yield new_process
    Register.clear_instance_cache()


def build(*tasks):
    return luigi.build(tasks, local_scheduler=True, log_level="CRITICAL")


def test_results_are_made_found_and_distinguished_by_settings(place):
    assert build(Add()) and Add().status().state == "done"
    folder = Add().folder
    assert (folder / "sum.txt").read_text() == "12" and folder.name == f"sum@{Add().fingerprint[:8]}"
    assert Read().manifest().summary == {"count": 3} and os.readlink(Add().link) == folder.name
    place(factor=3)
    assert Add().status().state == "stale" and Add().status().why == "factor 2 -> 3"
    assert build(Add()) and folder.exists() and (Add().link / "sum.txt").read_text() == "18"
    (place(factor=3) / "numbers.txt").write_text("4")
    assert Add().status().why == "input numbers changed"
    assert Read().status().why == f"file {PLACE['folder'] / 'numbers.txt'} changed"


def test_the_fingerprint_is_the_digest_of_a_document_that_others_can_compute(place):
    """The expected digests, of numbers.txt and of the identity as JSON text, were computed by sha256sum of coreutils."""
    assert Read().identity.external_inputs == {"numbers": "7c8f5059290305cec8323d79521f0353c9ac308b60cb4c1976340d0ce4a121d5"}
    assert Read().fingerprint == "5357292b28fecd07f66dd56478399d3beb952c7d51b69f1be4a54b76ba57bd9f"


def test_a_stage_is_made_again_once_and_only_by_request(place):
    assert build(Add()) and build(Add())
    before = {stage.name: os.stat(stage.folder / "manifest.json").st_mtime_ns for stage in with_inputs([Add()])}
    requests = again([Add(), Read()])
    assert not any(request.complete() for request in requests) and Add().complete()
    assert build(*requests) and all(request.complete() for request in requests)
    for stage in with_inputs([Add()]):
        assert os.stat(stage.folder / "manifest.json").st_mtime_ns > before[stage.name]
    assert len(list(Add().result.trash.folder.iterdir())) == 2
    assert Add().status().state == "done"  # Read ran before Add


def test_a_deleted_input_does_not_hide_that_an_earlier_stage_has_other_content(place, monkeypatch):
    assert build(Double()) and (Double().folder / "double.txt").read_text() == "24"
    shutil.rmtree(Add().folder)
    assert Double().status().state == "done"  # the deletion alone makes nothing stale

    def work(self, folder, inputs, report):
        (folder / "numbers.csv").write_text("7")

    monkeypatch.setattr(Read, "work", work)
    assert build(*again([Read()]))
    place()
    assert Double().status().state == "stale" and "numbers was made again with other content" in Double().status().why
    assert build(Double())
    place()
    assert Double().status().state == "done" and (Double().folder / "double.txt").read_text() == "28"


def test_a_deleted_input_behind_an_equal_result_makes_nothing_stale(place, monkeypatch):
    class Again(Double):
        result_path = "again"

        def requires(self):
            return {"double": Double()}

        def work(self, folder, inputs, report):
            (folder / "again.txt").write_text("x")

    assert build(Again())
    shutil.rmtree(Double().folder)

    def work(self, folder, inputs, report):
        (folder / "numbers.csv").write_text("6")  # other content, but the same sum

    monkeypatch.setattr(Read, "work", work)
    assert build(*again([Read(), Add()]))
    place()
    assert Again().status().state == "done"


def test_files_that_a_killed_process_was_writing_are_no_part_of_the_result(place, monkeypatch):
    work = Read.work

    def resumed(self, folder, inputs, report):
        for name in ("manifest.json.writing", "logs/metrics.csv.writing"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("of a killed process")
        return work(self, folder, inputs, report)

    monkeypatch.setattr(Read, "work", resumed)
    assert build(Read()) and Read().status().state == "done"
    assert not list(Read().folder.rglob("*.writing")) and Read().manifest().files.count == 1


def test_a_request_that_fails_keeps_the_old_result(place, monkeypatch):
    def fail(*_):
        raise DataError("no luck.")

    assert build(Read())
    old, folder = Read().manifest(), Read().folder
    monkeypatch.setattr(Read, "work", fail)
    (request,) = again([Read()])
    assert not build(request) and not request.complete()
    assert Read().manifest() == old and Read().complete()
    assert not folder.with_name(folder.name + ".partial").exists()  # the partial folder was empty, so it was deleted


def test_large_files_are_read_by_run_and_not_by_status(place, monkeypatch):
    monkeypatch.setattr(digests, "SMALL", 2)
    with without_reading(), pytest.raises(DataError, match="has not been read yet; start `run`, which reads it"):
        Add().status()
    assert build(Add()) and (Add().folder / "sum.txt").read_text() == "12"
    place()
    with without_reading():
        assert Add().status().state == "done"  # the digest is cached


def test_a_stage_without_its_input_names_the_command(place):
    with pytest.raises(DataError, match="Add needs Read; make it with: sums run Read"):
        Add().make()
    (place() / "results").rename(place() / "moved")
    (place() / "results").write_text("a file")
    with pytest.raises(DataError, match="results cannot be used as the folder of results"):
        Read().make()
