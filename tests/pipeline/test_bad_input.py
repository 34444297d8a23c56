"""Wrong input gives a clear error message, a non-zero exit code, and no result folder."""

import gzip
import io
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import scipy.io


def results_of(place, pattern):
    return [p for p in place.exp.glob(pattern) if not p.name.endswith(".partial")]


@pytest.fixture
def archive(place):
    """A copy of the sample's Penn Action archive; the settings specify its path as the source."""
    shutil.copy((place.exp / "sample").resolve() / "Penn_Action.tar.gz", place.folder / "given.tar.gz")
    place.set("[penn_action]\narchive = given.tar.gz\n")
    shutil.rmtree(place.exp / "penn_action")
    return place.folder / "given.tar.gz"


def rewritten(path, change):
    """Replace each regular file of the archive by the (name, content) pairs that `change(name, content)` returns."""
    out = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=out, mode="w:gz") as new:
        for member in old:
            if member.isreg():
                for name, content in change(member.name, old.extractfile(member).read()):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    new.addfile(info, io.BytesIO(content))
    path.write_bytes(out.getvalue())


def fails(place, stage, *words, code=30):
    output = place.run("run", stage, "--config", "profile.cfg", code=code)
    for word in words:
        assert word in output, output
    return output


def test_missing_archive(place):
    place.set("[penn_action]\narchive = nowhere.tar.gz\n")
    fails(place, "FetchPennAction", "nowhere.tar.gz does not exist")
    assert "nowhere.tar.gz does not exist" in place.run("status", "--config", "profile.cfg")


def test_files_that_are_no_networks_are_refused(place):
    """If a file in [models] is not the right network, only the stages that need this file fail; `status` lists all stages."""
    (place.folder / "empty").mkdir()
    options = ("--models", "precomputed", "--config", "profile.cfg")
    for wrong, words in (
        ("empty", "holds no network"),
        ("hg-256-ft", "is a network for penn_action"),
        ("sample", "= sample is no network"),
    ):
        place.set(f"[models]\nmpii = {wrong}\npenn_action = hg-256-ft\n")
        table = place.run("status", *options)
        assert words in table and "MakeSample" in table and "an input is unknown" in table
        assert words in place.run("run", "FetchPrecomputed:mpii", *options, code=30)
    assert not list(place.exp.glob("mpii/precomputed*"))


def test_truncated_archive(place, archive):
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    fails(place, "FetchPennAction", "given.tar.gz is damaged or truncated", "Penn_Action/frames/")
    assert not results_of(place, "penn_action/raw@*")


def test_not_an_archive(place, archive):
    archive.write_bytes(gzip.compress(b"no tar at all" * 1000))
    fails(place, "FetchPennAction", "given.tar.gz is a compressed file that holds a text file; expected an archive")
    assert not list(place.exp.glob("penn_action/raw@*"))  # also no partial folder, because there is no work to resume


def test_member_that_points_outside(place, archive):
    rewritten(archive, lambda name, content: [(name, content), ("../evil.jpg", b"x")])
    fails(place, "FetchPennAction", "'../evil.jpg'", "outside")
    assert not list(place.folder.rglob("evil*"))


def test_corrupt_jpeg(place, archive):
    def change(name, content):
        return [(name, content[:200] if name.endswith("0003/000002.jpg") else content)]

    rewritten(archive, change)
    fails(place, "CropPenn", "0003/000002.jpg is damaged")
    assert len(results_of(place, "penn_action_cropped/data@*")) == 1  # the only result was made from the sample


def test_corrupt_jpeg_of_mpii(place):
    archive = place.folder / "given.tar.gz"
    shutil.copy((place.exp / "sample").resolve() / "mpii_human_pose_v1.tar.gz", archive)
    with tarfile.open(archive) as tar:
        bad = sorted(tar.getnames())[5]

    def change(name, content):  # beginning and end of the file are undamaged
        return [(name, content[:700] + bytes(200) + content[900:] if name == bad else content)]

    rewritten(archive, change)
    place.set("[mpii]\nimages = given.tar.gz\n")
    fails(place, "AnnotateMpii", bad, "damaged")
    assert len(results_of(place, "mpii/annot@*")) == 1


def test_label_with_a_missing_field(place, archive):
    def change(name, content):
        if name.endswith("labels/0002.mat"):
            fields = {k: v for k, v in scipy.io.loadmat(io.BytesIO(content)).items() if k != "bbox" and k[0] != "_"}
            scipy.io.savemat(out := io.BytesIO(), fields)
            content = out.getvalue()
        return [(name, content)]

    rewritten(archive, change)
    fails(place, "CropPenn", "0002.mat", "bbox")
    assert len(results_of(place, "penn_action_cropped/data@*")) == 1  # the only result was made from the sample


def test_label_with_nan(place, archive):
    def change(name, content):
        if name.endswith("labels/0002.mat"):
            fields = {k: v for k, v in scipy.io.loadmat(io.BytesIO(content)).items() if k[0] != "_"}
            fields["bbox"] = fields["bbox"].astype(float)
            fields["bbox"][1, 2] = np.nan
            scipy.io.savemat(out := io.BytesIO(), fields)
            content = out.getvalue()
        return [(name, content)]

    rewritten(archive, change)
    fails(place, "CropPenn", "0002.mat")


def test_release_with_a_missing_field(place):
    with zipfile.ZipFile(place.folder / "given.zip", "w") as file:
        scipy.io.savemat(out := io.BytesIO(), {"RELEASE": {"annolist": [], "version": "12"}})
        file.writestr("mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat", out.getvalue())
    place.set("[mpii]\nannotations = given.zip\n")
    fails(place, "AnnotateMpii", "img_train")
    assert len(results_of(place, "mpii/annot@*")) == 1  # the only result was made from the sample


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[finetune]\nlearning_rat = 1\n", ["unknown setting learning_rat", "Did you mean learning_rate?"]),
        ("[finetune]\nlearning_rate = -1\n", ["[finetune] learning_rate = -1", "greater than 0"]),
        ("[finetun]\nlearning_rate = 1\n", ["unknown section [finetun]"]),
        ("learning_rate = 1\n", ["profile.cfg"]),
    ],
)
def test_wrong_settings(place, text, words):
    place.set(text)
    for command in (["run"], ["status"]):
        output = place.run(*command, "--config", "profile.cfg", code=2)
        assert all(word in output for word in words), output


def test_unknown_stage_and_profile(place):
    assert "Did you mean FinetunePenn?" in place.run("run", "FinetunPenn", code=2)
    assert "no such file" in place.run("run", "--config", "nowhere.cfg", code=2)


def test_only_refuses_and_names_the_missing_stage(empty):
    output = empty.run("run", "AnnotatePenn", "--only", code=2)
    assert "AnnotatePenn needs CropPenn" in output and "python -m pipeline run CropPenn" in output
    assert not list(empty.exp.glob("*@*"))


@pytest.mark.parametrize(
    ("error", "command"), [("ENOLCK", ["run", "MakeSample"]), ("ENOSYS", ["run", "MakeSample"]), ("EOPNOTSUPP", ["report"])]
)
def test_a_disk_that_cannot_lock_files(empty, error, command):
    """Locking a file raises ENOLCK on NFS without lockd, and ENOSYS on Lustre that is mounted without flock."""
    code = (
        "import sys, errno, fcntl\n"
        f"def flock(*_): raise OSError(errno.{error}, 'No locks available')\n"
        "fcntl.flock = flock\n"
        "from pipeline.__main__ import main\n"
        f"sys.exit(main({command}))\n"
    )
    process = empty.start("-c", code)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (20, 30) and "Traceback" not in err
    assert "The disk of exp cannot lock files" in err and "set [workspace] exp to another disk" in err


def test_full_disk(place, tmp_path):
    """A full disk is simulated: every write of a checkpoint fails with ENOSPC."""
    place.set("[pretrain]\nexperiment = full\nseed = 9\n")
    code = (
        "import sys, datasets.files as f, errno\n"
        "def full(path, data, before=None): raise OSError(errno.ENOSPC, 'No space left on device', str(path))\n"
        "import stages.network.checkpoints as c, stages.training.train as t\n"
        "c.write_atomically = t.write_atomically = full\n"
        "from pipeline.__main__ import main\n"
        "sys.exit(main(['run', 'PretrainMpii', '--config', 'profile.cfg']))\n"
    )
    process = place.start("-c", code)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 30 and "The disk is full" in err and "Traceback" not in err
    assert not results_of(place, "mpii/full@*")
