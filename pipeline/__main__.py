"""Define the command line of the chain: python -m pipeline {run,sweep,status,report,why,verify,rerun,models,settings,clean}

Exit codes: 0 after success, 2 for wrong usage or settings, 130 after Ctrl-C, 1 if `verify` finds a changed file or a
combination of `sweep` fails, 20 for an error that is found while no stage runs, such as a damaged training. If a stage fails,
the section [retcode] of luigi.cfg defines the exit code.
"""

import argparse
import os
import sys
from importlib import metadata
from pathlib import Path

from datasets.errors import DataError
from datasets.files import disk_trouble_as_data_error
from pipeline import config
from pipeline.tasks.fetch import fetched

DESCRIPTION = """\
From the archives of MPII Human Pose and Penn Action to a network that forecasts sixteen poses from one image.

  python -m pipeline run                 make all results that are missing or stale
  python -m pipeline status              print the state of every stage, with the reason if it is stale
  python -m pipeline run ExportWeights --models precomputed     export a published network, without any training
  python -m pipeline report              write a page with all accuracies and states: exp/report/index.html

`status` lists the stages of the chain. EvaluatePenn means EvaluatePenn:pretrained and EvaluatePenn:finetuned.
The stages outside the chain are Fetch:D, Annotate:D, Pretrain:D, Finetune:D and Evaluate:D:M, where D is one of
DATASETS, or the NAME of a section [dataset:NAME] that you have added, and M is one of pretrained (on MPII),
finetuned and scratch (trained on D alone). Names of this form are also accepted for stages of the chain:
Annotate:mpii is AnnotateMpii, and Finetune:penn_action is FinetunePenn.
Pretrain:penn_action trains a network on Penn Action alone, and EvaluatePenn:scratch scores this network.
Export:D:M exports one of these networks. Export:mpii:pretrained exports the MPII network, and ExportWeights exports the Penn
Action network.
ConvertMocap, TrainConverter, TrainLifter, EvaluateConverter and ExportConverter train, score and export networks that compute
3D poses from 2D poses. FetchPrecomputed:mpii, FetchPrecomputed:penn_action, FetchConverter and FetchForecaster fetch the
networks that are set in [models].
With cache = true in [pretrain] or [finetune], there is also the stage CacheCrops:D; its D may also be mpii or penn_action.
""".replace("DATASETS", ", ".join(fetched()))


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    config.add_options(common)
    common.add_argument(
        "--workspace", type=Path, metavar="DIR", help="folder that contains luigi.cfg and exp/; default: the current folder"
    )
    common.add_argument(
        "--models", choices=["train", "precomputed"], help="overrides [models] source of luigi.cfg for this command"
    )
    top = argparse.ArgumentParser(
        prog="python -m pipeline", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[common], help="make a stage and its inputs")
    run.add_argument(
        "stage", nargs="?", default="Pipeline", metavar="STAGE", help="name of the stage; default: the whole chain"
    )
    run.add_argument("--again", action="store_true", help=argparse.SUPPRESS)  # used by the Slurm jobs of `rerun`
    run.add_argument("--only", action="store_true", help="make only this stage; stop if the result of an input is missing")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="print the stages that would run, the reasons, and how long the last run of each took; run no stage",
    )
    sweep = commands.add_parser(
        "sweep", parents=[common], help="run a stage with every combination of the given settings, and compare the results"
    )
    sweep.add_argument("stage", metavar="STAGE", help="such as EvaluatePenn:finetuned")
    sweep.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="SECTION.NAME=V1,V2",
        help="a setting and its values; give --vary several times for combinations",
    )
    sweep.add_argument(
        "--search", type=_positive, default=0, metavar="N",
        help="run only N combinations, chosen by Optuna; --vary then also accepts ranges, such as 1e-5..1e-2",
    )  # fmt: skip
    sweep.add_argument("--prune", action="store_true", help="with --search: stop trainings that fall behind the other trials")
    sweep.add_argument(
        "--at-once", type=_positive, default=1, metavar="N", help="number of combinations that run at the same time; default: 1"
    )
    for command in (run, sweep):
        _add_place(command)
    commands.add_parser("status", parents=[common], help="print the state of every stage")
    commands.add_parser("report", parents=[common], help="write exp/report/index.html: accuracies, states and settings")
    why = commands.add_parser("why", parents=[common], help="explain why a stage would run again")
    rerun = commands.add_parser(
        "rerun", parents=[common], help="make a stage again, and its downstream stages if the content of its result changed"
    )
    _add_place(rerun)
    for command in (why, rerun):
        command.add_argument("stage", metavar="STAGE")
    verify = commands.add_parser("verify", parents=[common], help="compare every file of the results with its digest")
    verify.add_argument("stage", nargs="?", metavar="STAGE", help="name of the stage; default: all stages")
    commands.add_parser("models", parents=[common], help="print the published networks that [models] can select")
    commands.add_parser("settings", parents=[common], help="print luigi.cfg with every setting, its meaning and its default")
    clean = commands.add_parser(
        "clean",
        parents=[common],
        help="list unfinished results of settings other than the current ones and, if confirmed, move them to exp/.trash",
    )
    clean.add_argument("--interrupted", action="store_true", help="also move interrupted trainings of other settings")
    clean.add_argument("--others", action="store_true", help="also move finished results of other settings")
    clean.add_argument("--empty-trash", action="store_true", help="delete the contents of exp/.trash permanently")
    clean.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    return top


def _positive(text: str) -> int:
    """Return the number that a text contains. Raises ArgumentTypeError if it is no whole number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return int(text)


def _add_place(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--on", choices=["here", "slurm"],
        help="overrides [workspace] run_on for this command; slurm: run trainings, evaluations and crop caches as Slurm jobs",
    )  # fmt: skip


def _version() -> str:
    try:
        return f"pose-workspace {metadata.version('pose-workspace')}"
    except metadata.PackageNotFoundError:
        return "pose-workspace, not installed: run make setup"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = parser().parse_args(arguments)
    try:
        from pipeline.cli import commands

        if options.workspace:
            options.config = [path.absolute() for path in options.config]
            config.use_workspace(options.workspace.absolute())
        config.use(options)
        if getattr(options, "on", None):
            config.use_setting(f"workspace.run_on={options.on}")
        if options.models:
            config.use_models(options.models)
        config.settings()
        config.say_files()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        with disk_trouble_as_data_error(config.exp()):
            return commands.COMMANDS[options.command](options)
    except config.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return commands.MISSING_DATA
    except BrokenPipeError:  # the program that reads the output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command carries on where it stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
