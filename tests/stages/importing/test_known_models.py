"""The table of known networks, and the values of a setting that select one."""

from pathlib import Path

import pytest

from datasets.errors import DataError
from stages.fetching.sources import read_source
from stages.importing.known_models import KNOWN, read_choice

SHA = "a" * 64


def test_every_entry_can_be_fetched():
    for name, model in KNOWN.items():
        source = read_source(model.source())
        assert source.addresses == (model.address,) and name == model.name
        assert source.sha256 == (model.sha256 or None) and model.joints == {"mpii": 16, "penn_action": 13}[model.dataset]
        assert model.sha256 in model.address  # the publisher writes the digest into the name of the file


def test_a_name_a_source_or_both():
    hg2, address = read_choice("hg2", "mpii")
    assert hg2 is KNOWN["hg2"] and address == f"{hg2.address}#sha256=15e342d9"
    assert read_choice(" hg2  /models/a b.pth ", "mpii") == (hg2, "/models/a b.pth#sha256=15e342d9")
    assert read_choice(f"hg2 x.pth#sha256={SHA}", "mpii") == (hg2, f"x.pth#sha256={SHA}")
    assert read_choice("original_2hg c.pth.tar", "mpii") == (KNOWN["original_2hg"], "c.pth.tar")
    assert read_choice("models/hg2", "mpii") == (None, "models/hg2")
    assert read_choice("https://a/hg2 https://b/hg2", "mpii") == (None, "https://a/hg2 https://b/hg2")
    assert read_choice("", "mpii") == (None, "")


def test_a_name_for_the_other_dataset_is_refused():
    """The archive of image-play contains networks for both datasets, so the name of the wrong network could go unnoticed."""
    with pytest.raises(DataError, match="penn_action = hg-256, which is a network for mpii; give hg-256-ft, hg-256-res-64-hg0"):
        read_choice("hg-256 /models/precomputed_hg_models.tar.gz", "penn_action")


def test_an_unpacked_folder_of_the_published_layout(tmp_path):
    """The archive is unpacked as image-play recommends: below exp/, with symlinks to its networks."""
    unpacked = tmp_path / "exp" / "precomputed_hg_models"
    for place in ("mpii/hg-256", "penn_action_cropped/hg-256-ft"):
        (unpacked / place).mkdir(parents=True)
        (unpacked / place / "best_model.t7").touch()
        (unpacked / place / "options.t7").touch()
    for name in ("mpii", "penn_action_cropped"):
        (tmp_path / "exp" / name).symlink_to(Path("precomputed_hg_models") / name)
    wanted = (unpacked / "penn_action_cropped/hg-256-ft/best_model.t7").resolve()
    for folder in (tmp_path, tmp_path / "exp", unpacked, wanted.parent):
        model, source = read_choice(str(folder), "penn_action")
        assert model is None and Path(source).resolve() == wanted
    assert Path(read_choice(f"hg-256 {tmp_path}", "mpii")[1]).parent.name == "hg-256"
    (unpacked / "mpii/hg-512").mkdir()
    (unpacked / "mpii/hg-512/best_model.t7").touch()
    with pytest.raises(DataError, match=rf"{tmp_path} holds several networks for mpii \(mpii/"):
        read_choice(str(tmp_path), "mpii")
    with pytest.raises(DataError, match="holds no network for penn_action"):
        read_choice(str(unpacked / "mpii"), "penn_action")


def test_networks_of_one_archive_are_told_apart_by_their_names(tmp_path):
    for name, files in (("hg-256-res-clstm", ["model_4.t7"]), ("hg-256-res-clstm-res-64", ["model_3.t7", "model_10.t7"])):
        (tmp_path / "penn-crop" / name).mkdir(parents=True)
        for file in (*files, "optimState_4.t7", "latest.t7"):
            (tmp_path / "penn-crop" / name / file).touch()
    (tmp_path / "h36m/res-64").mkdir(parents=True)
    (tmp_path / "h36m/res-64/model_best.t7").touch()
    model, source = read_choice(f"hg-256-res-clstm-res-64 {tmp_path}", "forecaster")
    assert model and Path(source) == tmp_path / "penn-crop/hg-256-res-clstm-res-64/model_10.t7"  # epoch 10 is the last
    assert Path(read_choice(str(tmp_path), "converter")[1]) == tmp_path / "h36m/res-64/model_best.t7"
    with pytest.raises(DataError, match=r"several networks for forecaster \(penn-crop/"):
        read_choice(str(tmp_path), "forecaster")
    with pytest.raises(DataError, match="forecaster = res-64, which is a network for converter; give hg-256-res-clstm, hg-256"):
        read_choice("res-64", "forecaster")
    both = "hg-256-res-64-hg0-hgfix"
    assert read_choice(both, "converter") == read_choice(both, "penn_action")
