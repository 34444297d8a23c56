"""Results are found by their settings, not by symlinks: in copies, on disks without symlinks, and under other names."""

import json
import os
import re
import shutil

OTHER = "[evaluate]\ndecoder = argmax\n"
EVALUATION = "mpii/evaluate-finetuned"
NO_SYMLINKS = (
    "import errno, os, sys\n"
    "def symlink(*_, **__):\n"
    "    raise OSError(errno.EPERM, 'Operation not permitted')\n"
    "os.symlink = symlink\n"
    "from pipeline.__main__ import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


def row(said, stage):
    return next(line for line in said.splitlines() if line.startswith(stage + " "))


def test_status_names_the_result_and_updates_the_symlink(place):
    link = place.exp / EVALUATION
    ours = os.readlink(link)
    place.set(OTHER)
    said = place.run("run", "EvaluateMpii:finetuned", "--config", "profile.cfg")
    theirs = os.readlink(link)
    assert theirs != ours and f"EvaluateMpii:finetuned: exp/mpii/{theirs}" in said
    said = place.run("why", "EvaluateMpii:finetuned")
    assert "is done" in said and f"result: exp/mpii/{ours}" in said and f"the link points at {theirs} (other settings)" in said
    assert os.readlink(link) == theirs
    said = row(place.run("status"), "EvaluateMpii:finetuned")
    assert said.split()[-1] == ours.partition("@")[2] and os.readlink(link) == ours
    place.set("[evaluate]\ndecoder = quarter\n")
    said = place.run("why", "EvaluateMpii:finetuned", "--config", "profile.cfg")
    assert "decoder subpixel -> quarter" in said and ", not there" in said and f"points at {ours} (other settings)" in said


def test_a_copy_with_followed_symlinks_is_recognised(place):
    copied = place.exp.with_name("copied")
    shutil.copytree(place.exp, copied)  # copies with symlinks followed, as cp -rL, scp -r and zip -r do
    shutil.rmtree(place.exp)
    copied.rename(place.exp)
    (ours,) = (path.name for path in place.exp.glob(f"{EVALUATION}@*"))
    for folder in [*place.exp.glob("*@*"), *place.exp.glob("*/*@*")]:
        if folder.name != ours:  # other results remain only as the folders that replaced symlinks
            shutil.rmtree(folder)
    alone = place.exp / "penn_action_cropped/evaluate-pretrained"
    before = [json.loads((folder / "manifest.json").read_text()) for folder in (place.exp / EVALUATION, alone)]
    said = place.run("status")
    assert set(re.findall(r"^[A-Z]\S+ +(done|stale|missing|unknown|interrupted|damaged)\b", said, flags=re.M)) == {"done"}
    assert "done in" not in place.run("run", "ExportWeights")
    place.set(OTHER)
    for stage in ("EvaluateMpii:finetuned", "EvaluatePenn:pretrained"):
        place.run("run", stage, "--config", "profile.cfg")
    assert (place.exp / EVALUATION).is_symlink() and alone.is_symlink()
    digits = before[1]["fingerprint"][:8]
    kept = [place.exp / "mpii" / ours, alone.with_name(f"{alone.name}@{digits}")]
    assert [json.loads((folder / "manifest.json").read_text()) for folder in kept] == before
    # A copy in the place of a symlink goes to the trash if the original result still exists, and is renamed otherwise.
    assert [path.name for path in (place.exp / ".trash").glob("*/*")] == ["evaluate-finetuned"]
    assert "done in" not in place.run("run", "EvaluatePenn:pretrained")
    assert alone.resolve() == kept[1].resolve()


def test_a_disk_without_symbolic_links(place):
    def run(*arguments):
        process = place.start("-c", NO_SYMLINKS, *arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and "Traceback" not in err, out + err
        return out + err

    link = place.exp / EVALUATION
    ours = os.readlink(link)
    place.set(OTHER + "[finetune]\nexperiment = branch\nepochs = 3\nbranch_from = exp/penn_action_cropped/hg-256-ft\n")
    plain = place.exp / "penn_action_cropped/hg-256-ft"
    text = os.readlink(plain)
    plain.unlink()
    plain.write_text(text + "\n")
    run("run", "EvaluateMpii:finetuned", "--config", "profile.cfg")
    theirs = link.read_text()
    assert not link.is_symlink() and theirs != ours and (place.exp / "mpii" / theirs / "accuracy.json").exists()
    branch = place.exp / "penn_action_cropped" / (place.exp / "penn_action_cropped/branch").read_text()
    assert (branch / "train.log").read_text().count("\n") == 4
    assert f"points at {theirs}" in run("why", "EvaluateMpii:finetuned")
    run("run", "EvaluateMpii:finetuned")
    assert link.read_text() == ours


def test_a_renamed_experiment_finds_its_result(place):
    before = place.results()
    place.set("[finetune]\nexperiment = renamed\n[pretrain]\nexperiment = also-renamed\n")
    place.run("run", "ExportWeights", "--config", "profile.cfg")
    assert place.results() == before
    assert os.readlink(place.exp / "penn_action_cropped/renamed").startswith("hg-256-ft@")
    said = place.run("status", "--config", "profile.cfg")
    assert {row(said, f"Evaluate{name}").split()[1] for name in ("Mpii:finetuned", "Penn:finetuned")} == {"done"}
    # The comparison runs again, because its tables contain the names of the networks.
    assert row(said, "CompareAccuracy").split()[1] == "stale"

    link = place.exp / "penn_action_cropped/renamed"
    whole, weights = link.resolve(), (link / "best.safetensors").read_bytes()
    partial = whole.with_name(whole.name + ".partial")
    facts = json.loads((whole / "manifest.json").read_text())
    whole.rename(partial)
    (partial / "manifest.json").unlink()
    (partial / "partial.json").write_text(
        json.dumps({k: facts[k] for k in ("fingerprint", "input_contents", "identity")} | {"seconds": 5})
    )
    assert "interrupted" in row(place.run("status", "--config", "profile.cfg"), "FinetunePenn")
    place.run("run", "FinetunePenn", "--config", "profile.cfg")
    assert not partial.exists() and os.readlink(link).startswith("renamed@")
    assert (link / "best.safetensors").read_bytes() == weights
    assert json.loads((link / "manifest.json").read_text())["seconds"] >= 5  # the unfinished training was continued
    assert "done" in row(place.run("status"), "FinetunePenn")  # the result is also found under the old name
