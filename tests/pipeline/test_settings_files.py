"""Settings files: which files are read, and in which encodings."""

import os
import subprocess
import sys

import pytest

from tests.python_path import python_path


@pytest.fixture
def call(tmp_path):
    """A function that runs a program in an empty folder and returns (exit code, stdout and stderr)."""

    def call(*arguments, **variables):
        environment = os.environ | {"PYTHONPATH": python_path()} | variables
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environment, text=True, capture_output=True)
        return done.returncode, done.stdout + done.stderr

    return call


def test_the_files_that_were_read_are_printed(call, tmp_path):
    code, output = call("-m", "pipeline", "models")
    assert code == 0 and f"Settings: no file; there is no luigi.cfg in {tmp_path}, so the published defaults apply." in output
    (tmp_path / "luigi.cfg").write_text("[workspace]\nexp = results\n")
    (tmp_path / "mine.cfg").write_text("[mpii]\nsplit_seed = 4\n")
    code, output = call("-m", "pipeline", "models", "--config", "mine.cfg")
    assert code == 0 and "Settings: luigi.cfg, mine.cfg." in output


def test_single_settings_override_all_files(call, tmp_path):
    (tmp_path / "luigi.cfg").write_text("[mpii]\nsplit_seed = 3\n[finetune]\nbatch = 5\n")
    (tmp_path / "mine.cfg").write_text("[mpii]\nsplit_seed = 4\n")
    given = ["--set", "mpii.split_seed=7", "--config", "mine.cfg", "--set", "workspace.exp = 100% of it"]
    code, output = call("-m", "pipeline", "why", "AnnotateMpii", *given)
    assert code == 0 and "Settings: luigi.cfg, mine.cfg. --set mpii.split_seed=7. --set workspace.exp = 100% of it." in output
    assert "result: 100% of it/mpii/annot@" in output
    found = call(
        "-c", "from pipeline import config\nimport argparse\np = argparse.ArgumentParser()\nconfig.add_options(p)\n"
        f"config.use(p.parse_args({given}))\ns = config.settings()\n"
        "print(s.datasets['mpii'].split_seed, s.finetune.batch, config.command('run X'))",
    )[1]  # fmt: skip
    assert "7 5 python -m pipeline run X --config mine.cfg --set mpii.split_seed=7 --set 'workspace.exp = 100% of it'" in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("finetune.lerning_rate=1", "Did you mean learning_rate?"), ("finetun.batch=1", "unknown section [finetun]"),
        ("finetune.batch=none", "batch = none"), ("batch=4", "give a setting as SECTION.NAME=VALUE"),
        ("finetune.batch", "give a setting as SECTION.NAME=VALUE"),
    ],
)  # fmt: skip
def test_a_wrong_single_setting_is_refused(call, tmp_path, text, told):
    code, output = call("-m", "pipeline", "status", "--set", text)
    assert code == 2 and told in output and "Traceback" not in output and not (tmp_path / "exp").exists()


@pytest.mark.parametrize("program", ["pipeline status", "luigi --module pipeline AnnotatePenn --local-scheduler"])
def test_a_mistyped_variable_is_refused(call, tmp_path, program):
    code, output = call("-m", *program.split(), LUIGI_CONFIG_PATH="configs/deom.cfg")
    assert code == 2 and "LUIGI_CONFIG_PATH = configs/deom.cfg: there is no such file" in output
    assert "Traceback" not in output and not (tmp_path / "exp").exists()


def test_settings_of_another_form_are_refused(call, tmp_path):
    (tmp_path / "luigi.toml").touch()
    code, output = call("-m", "pipeline", "models", LUIGI_CONFIG_PATH="luigi.toml")
    assert code == 2 and "luigi.toml: settings are in the form of luigi.cfg" in output and "Traceback" not in output


def test_settings_as_windows_editors_write_them(call, tmp_path):
    """The files have a byte order mark or are in Windows-1252; paths are in quotes or begin with ~."""
    (tmp_path / "luigi.cfg").write_bytes(b"\xef\xbb\xbf[workspace]\r\nexp = somewhere\r\n")
    quoted = b"[workspace]\r\nexp = \"~/B\xfccher und Bilder\"\r\n[penn_action]\r\narchive = '~/my data/Penn.tar.gz'\r\n"
    (tmp_path / "mine.cfg").write_bytes(quoted)
    show = (
        "from pathlib import Path; import pipeline; from pipeline import config; config.use_profile(Path('mine.cfg'));"
        "from stages.fetching.sources import read_source;"
        "print(ascii([str(config.exp()), str(read_source(config.settings().datasets['penn_action'].archive).path)]))"
    )
    expected = ascii(["/home/me/Bücher und Bilder", "/home/me/my data/Penn.tar.gz"])
    code, output = call("-c", show, HOME="/home/me")
    assert code == 0 and expected in output


def test_a_damaged_file_is_reported_as_an_error(call, tmp_path):
    (tmp_path / "luigi.cfg").write_text("no settings\n")
    code, output = call("-m", "pipeline", "models")
    assert code == 2 and output.startswith("error: The settings cannot be read: ") and "luigi.cfg" in output
    assert output.count("\n") == 1


def test_a_workspace_is_used_from_any_folder(call, tmp_path):
    place = tmp_path / "work space"
    place.mkdir()
    (tmp_path / "mine.cfg").write_text("[mpii]\nsplit_seed = 4\n")
    code, output = call("-m", "pipeline", "why", "AnnotateMpii", "--workspace", "work space")
    assert code == 2 and "there is no luigi.cfg in this folder; give the folder of a workspace" in output
    (place / "luigi.cfg").write_text("[workspace]\nexp = results\n")
    (tmp_path / "luigi.cfg").write_text("[workspace]\nexp = wrong\n")
    code, output = call("-m", "pipeline", "why", "AnnotateMpii", "--workspace", "work space", "--config", "mine.cfg")
    assert code == 0 and "result: results/mpii/annot@" in output and f"Settings: luigi.cfg, {tmp_path / 'mine.cfg'}." in output
    code, output = call("-m", "pipeline", "run", "AnnotateMpii", "--only", "--workspace", "work space")
    assert code == 2 and f"--workspace '{place}'" in output and not (tmp_path / "results").exists()
