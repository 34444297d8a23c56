"""Compare the accuracies of any experiments: python -m tools.compare_acc [RESULTS ...]

RESULTS are folders. A folder such as exp/demo selects all evaluations in it, of any settings. The folder of a training, such as
exp/demo/mpii/hg-64, selects the evaluations of its network. The folder of an evaluation, such as
exp/demo/mpii/evaluate-pretrained, selects this evaluation. The program prints the accuracies with 95 % intervals next to
published accuracies. For each dataset, it also tests whether each further network is better than the first network.
"""

import argparse
import sys
from pathlib import Path

from datasets.errors import DataError
from datasets.links import follow
from pipeline import config
from pipeline.engine import manifest
from pipeline.engine.identity import Identity
from pipeline.tasks.compare import result_at
from tools import program


@program
def main() -> None:
    """Read the options, compare the results and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare_acc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS", help="default: the folder of all results")
    config.add_options(parser)
    parser.add_argument("--out", type=Path, help="write the tables (.csv, .md, .txt) and curves (.png, .pdf) into this folder")
    options = parser.parse_args()
    config.use(options)
    compare(options.results or [config.exp()], options.out)


def compare(results: list[Path], out: Path | None) -> None:
    """Print the tables for the evaluations in folders of results; if `out` is given, write tables and curves into it too."""
    from stages.evaluation.scores import Scored, as_text, pair_table, part_table, part_text
    from stages.reporting.compare import write_tables, write_tests
    from stages.reporting.curves import Training, draw_pck, draw_training

    evaluations = list(dict.fromkeys(folder for path in results for folder in evaluations_of(path)))
    networks = short_names(list(dict.fromkeys(network_of(folder) for folder in evaluations)))
    scored = [Scored(name, folder) for folder, name in evaluation_names(evaluations, networks).items()]
    datasets: dict[str, list[Scored]] = {}
    for one in scored:
        datasets.setdefault(one.accuracy.dataset, []).append(one)
    table = part_table(scored)
    pairs = pair_table([(first, other) for first, *others in datasets.values() for other in others])
    print(part_text(table), *([as_text(pairs)] if len(pairs) else []), sep="\n\n")
    if not out:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_tables(out, scored)
        write_tests(out, pairs)
        for dataset, networks_of_dataset in datasets.items():
            draw_pck(out / f"pck_{dataset}", networks_of_dataset)
        for place in dict.fromkeys(network.parent.name for network in networks):
            trainings = [Training(name, network) for network, name in networks.items() if network.parent.name == place]
            draw_training(out / f"curves_{place}", trainings)
    except OSError as error:
        raise DataError(f"{error.filename or out} cannot be written ({error.strerror}); give another folder.") from None


def evaluations_of(path: Path) -> list[Path]:
    """Return the folders of the evaluations that a path selects (see the module's docstring), oldest network first.

    Raises DataError if the path selects no evaluation.
    """
    path = follow(Path(result_at(str(path)))).resolve()
    if (path / "accuracy.json").is_file():
        return [path]
    training = path if (path / "best.safetensors").is_file() else None
    root = _root(training) if training else path
    folders = [path.parent for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}evaluate-*/manifest.json")]
    # The evaluation of stored predictions has no network of this workspace.
    ours = [folder for folder in folders if folder.name.partition("@")[0] != "evaluate-stored"]
    found = {folder.resolve() for folder in ours if not stands_twice(folder)}
    evaluations = sorted(
        (folder for folder in sorted(found) if training is None or network_of(folder) == training),
        key=lambda f: finished(network_of(f)),
    )
    if not evaluations:
        raise DataError(f"{path} holds no evaluation of a network; evaluate one first: python -m pipeline run")
    return evaluations


def identity_of(evaluation: Path) -> Identity:
    """Return the identity (settings and inputs) of an evaluation. Raises DataError if its manifest names no network."""
    found = manifest.read(evaluation)
    if not found or "model" not in found.identity.inputs:
        raise DataError(f"{evaluation / manifest.MANIFEST} does not say which network was scored; evaluate again.")
    return found.identity


def finished(folder: Path) -> float:
    """Return the time at which a result was finished, in s since 1970; 0 if its manifest cannot be read."""
    found = manifest.read(folder)
    return found.finished.timestamp() if found else 0.0


def fingerprint(folder: Path) -> str:
    """Return the fingerprint of a result; "" if the result's manifest cannot be read."""
    found = manifest.read(folder)
    return found.fingerprint if found else ""


def stands_twice(folder: Path) -> bool:
    """Return whether a folder NAME is a symlink to the result NAME@FINGERPRINT beside it, or a copy of this result."""
    return "@" not in folder.name and folder.with_name(f"{folder.name}@{fingerprint(folder)[:8]}").exists()


def network_of(evaluation: Path) -> Path:
    """Return the folder of the network that an evaluation scored; if the network was deleted, a path that does not exist."""
    digits = identity_of(evaluation).inputs["model"][:8]
    root = _root(evaluation)
    results = (path.parent for depth in ("*/*", "own/*/*") for path in sorted(root.glob(f"{depth}/manifest.json")))
    copied = (folder for folder in results if fingerprint(folder).startswith(digits))
    named = (path for depth in ("*", "own/*") for path in root.glob(f"{depth}/*@{digits}"))
    found = next(named, None) or next(copied, None)
    return (found or root / "deleted" / f"network@{digits}").resolve()


def _root(result: Path) -> Path:
    """Return the folder of all results, such as exp/demo, for a result NAME/RESULT or own/NAME/RESULT in it."""
    own = result.parents[1].name == "own" and not (result.parents[1] / ".locks").is_dir()  # exp/ itself may be called own
    return result.parents[2] if own else result.parents[1]


def short_names(networks: list[Path]) -> dict[Path, str]:
    """Return the displayed name of each network (folder -> name), in the form hg-64, mpii/hg-64 or mpii/hg-64@1234abcd.

    The shortest of these forms in which all names differ is used. If even the longest form gives equal names, the name is the
    whole path.
    """
    for name in (
        lambda p: p.name.partition("@")[0], lambda p: f"{p.parent.name}/{p.name.partition('@')[0]}",
        lambda p: f"{p.parent.name}/{p.name}",
    ):  # fmt: skip
        names = {network: name(network) for network in networks}
        if len(set(names.values())) == len(networks):
            return names
    return {network: str(network) for network in networks}


def evaluation_names(evaluations: list[Path], networks: dict[Path, str]) -> dict[Path, str]:
    """Return the displayed name of each evaluation (folder -> name): the network's name and the distinguishing settings.

    A setting distinguishes evaluations if it differs between the evaluations of one network on one dataset. If several
    evaluations have equal settings, because they used different annotations or versions of the code, the name also contains
    the name of the evaluation's folder.
    """
    names = {}
    for folder in evaluations:
        alike = [other for other in evaluations if (other.parent, network_of(other)) == (folder.parent, network_of(folder))]
        settings = [identity_of(other).settings for other in alike]
        mine = identity_of(folder).settings
        differing = [f"{k} {v}" for k, v in mine.items() if any(other.get(k) != v for other in settings)]
        if settings.count(mine) > 1:
            differing.append(folder.name)
        names[folder] = ", ".join([networks[network_of(folder)], *differing])
    return names


if __name__ == "__main__":
    sys.exit(main())
