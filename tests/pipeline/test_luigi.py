"""The tasks, run by Luigi's own command line."""

import socket

from tests.pipeline.test_killed import wait_for


def luigi(place, *arguments):
    process = place.start("-m", "luigi", "--module", "pipeline", *arguments, "--local-scheduler")
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def test_a_finished_task_by_its_name(place):
    code, output = luigi(place, "EvaluatePenn", "--model", "pretrained")
    assert code == 0 and "1 complete ones were encountered" in output


def test_a_task_is_made_with_what_it_needs(empty):
    code, output = luigi(empty, "AnnotatePenn")
    assert code == 0, output
    assert (empty.exp / "penn_action_cropped/annot/valid.h5").exists()
    assert (empty.exp / "penn_action/raw").is_symlink()


def test_a_failure_is_reported_as_an_error_and_a_code(empty):
    settings = empty.folder / "luigi.cfg"
    settings.write_text(settings.read_text().replace("archive = sample", "archive = no.tar"))
    code, output = luigi(empty, "CropPenn")
    assert code == 30 and "no.tar does not exist" in output and "Traceback" not in output


def test_wrong_settings_is_reported_as_an_error_and_a_code(empty):
    settings = empty.folder / "luigi.cfg"
    settings.write_text(settings.read_text().replace("archive = sample", "archiv = sample"))
    code, output = luigi(empty, "CropPenn")
    assert code == 2 and "Did you mean archive?" in output and "Traceback" not in output


def test_two_workers_of_a_central_scheduler_share_one_exp(empty, tmp_path):
    """As on two machines, each worker has its own temporary folder; both workers need MakeSample, which runs only once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = empty.start("-c", f"from luigi.cmdline import luigid; luigid(['--address', '127.0.0.1', '--port', '{port}'])")
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        scheduler = (
            "--scheduler-host",
            "127.0.0.1",
            "--scheduler-port",
            str(port),
            "--worker-keep-alive",
            "--log-level",
            "WARNING",
        )
        workers = []
        for stage in ("FetchMpii", "CropPenn"):
            (tmp_path / stage).mkdir()
            empty.variables = {"TMPDIR": str(tmp_path / stage)}
            workers.append(empty.start("-m", "luigi", "--module", "pipeline", stage, *scheduler))
        said = [worker.communicate(timeout=300)[1] for worker in workers]
    finally:
        server.kill()
        server.communicate()
    assert [worker.returncode for worker in workers] == [0, 0]
    for stage in ("MakeSample", "FetchMpii", "FetchPennAction", "CropPenn"):
        assert sum(f"{stage}: done in" in text for text in said) == 1
    assert all(len(text.splitlines()) < 12 for text in said), said


def test_the_command_line_does_not_import_torch(empty):
    heavy = "('torch', 'cv2', 'matplotlib', 'pandas')"
    check = f"import sys, pipeline, pipeline.cli.commands; print([m for m in {heavy} if m in sys.modules])"
    assert empty.start("-c", check).communicate()[0].strip() == "[]"
