"""The copy of exp/ with which the further machines of a Slurm job work."""

from pipeline.engine.nodes import copy_checkpoint, link_results


def test_results_of_all_depths_are_linked_and_the_checkpoint_is_copied(tmp_path):
    exp, copy = tmp_path / "exp", tmp_path / "copy"
    for name in ("export@12345678", "mpii/hg@12345678", "own/fish/annot@12345678", ".trash/a/b@12345678"):
        (exp / name).mkdir(parents=True)
        (exp / name / "file").write_text(name)
    fingerprint = "0" * 8
    partial = exp / f"own/fish/hg@{fingerprint}.partial"
    partial.mkdir()
    (partial / "last.safetensors").write_text("state")
    copy.mkdir()
    link_results(exp, copy)
    copy_checkpoint(exp, copy, fingerprint)
    found = {path.relative_to(copy).as_posix() for path in copy.rglob("*@*")}
    assert found == {"export@12345678", "mpii/hg@12345678", "own/fish/annot@12345678", f"own/fish/hg@{fingerprint}.partial"}
    assert (copy / "own/fish/annot@12345678/file").read_text() == "own/fish/annot@12345678"
    assert (copy / partial.relative_to(exp) / "last.safetensors").read_text() == "state"
