"""The command line of the chain: python -m pipeline {run,sweep,status,report,why,verify,rerun,models,settings,clean}

Exit codes: 0 if done or already complete, 2 for wrong usage or settings, 130 after an interruption; others as set in the
section [retcode] of luigi.cfg.
"""

import argparse
import os
import sys
from importlib import metadata
from pathlib import Path

from datasets.errors import DataError
from pipeline import config
from pipeline.tasks.fetch import fetched

DESCRIPTION = """\
From the archives of MPII Human Pose and Penn Action to a network that forecasts sixteen poses from one image.

  python -m pipeline run                 make everything that is not there yet
  python -m pipeline status              all stages: what is there, what is stale and why
  python -m pipeline run ExportWeights --models precomputed     without training, from published networks
  python -m pipeline report              states of the stages and all accuracies as a page: exp/report/index.html

Stages of the chain: those that `status` lists; EvaluatePenn means EvaluatePenn:pretrained and EvaluatePenn:finetuned. These
stages also have names like the stages outside the chain: Annotate:mpii is AnnotateMpii, Finetune:penn_action is FinetunePenn.
Outside the chain: Fetch:D, Annotate:D, Pretrain:D, Finetune:D and Evaluate:D:M, where D is one of
DATASETS, or the NAME of a section [dataset:NAME] of your own, and M is one of pretrained (on MPII), finetuned and
scratch (trained on D alone).
Pretrain:penn_action and EvaluatePenn:scratch train on Penn Action alone.
Export:D:M exports one of these networks, Export:mpii:pretrained the MPII network, as ExportWeights exports Penn Action's.
ConvertMocap, TrainConverter, TrainLifter and EvaluateConverter: from 2D to 3D, learnt from motion capture.
With cache = true in [pretrain] or [finetune], there is also the stage CacheCrops:D, where D may also be mpii or penn_action.
""".replace("DATASETS", ", ".join(fetched()))


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    config.add_options(common)
    common.add_argument(
        "--workspace", type=Path, metavar="DIR", help="the folder of luigi.cfg and exp/; default: the current folder"
    )
    common.add_argument(
        "--models", choices=["train", "precomputed"], help="for this command, instead of [models] source in luigi.cfg"
    )
    top = argparse.ArgumentParser(
        prog="python -m pipeline", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[common], help="make a stage and its inputs")
    run.add_argument("stage", nargs="?", default="Pipeline", metavar="STAGE", help="default: the whole chain")
    run.add_argument("--again", action="store_true", help=argparse.SUPPRESS)  # given by the jobs of `rerun`
    run.add_argument("--only", action="store_true", help="make only this stage; stop if an input is not there")
    run.add_argument("--dry-run", action="store_true", help="make nothing: print what would be made, why, and how long it took")
    sweep = commands.add_parser("sweep", parents=[common], help="run a stage with every combination of settings, and compare")
    sweep.add_argument("stage", metavar="STAGE", help="such as EvaluatePenn:finetuned")
    sweep.add_argument(
        "--vary", action="append", required=True, metavar="SECTION.NAME=V1,V2", help="a setting and its values; several combine"
    )
    sweep.add_argument(
        "--search", type=int, default=0, metavar="N",
        help="instead of every combination: N that Optuna proposes; --vary then also takes ranges, such as 1e-5..1e-2",
    )  # fmt: skip
    for command in (run, sweep):
        _add_place(command)
    commands.add_parser("status", parents=[common], help="a table of all stages")
    commands.add_parser("report", parents=[common], help="write exp/report/index.html: accuracies, states and settings")
    why = commands.add_parser("why", parents=[common], help="explain why a stage would run again")
    rerun = commands.add_parser(
        "rerun", parents=[common], help="make a stage again, and its downstream stages if its content changed"
    )
    _add_place(rerun)
    for command in (why, rerun):
        command.add_argument("stage", metavar="STAGE")
    verify = commands.add_parser("verify", parents=[common], help="compare every file of the results with its digest")
    verify.add_argument("stage", nargs="?", metavar="STAGE", help="default: all stages")
    commands.add_parser("models", parents=[common], help="the published networks that [models] may name")
    commands.add_parser("settings", parents=[common], help="print luigi.cfg with every setting, its meaning and its default")
    clean = commands.add_parser(
        "clean", parents=[common], help="list unfinished results of other settings and, if confirmed, move them to exp/.trash"
    )
    clean.add_argument("--interrupted", action="store_true", help="interrupted trainings of other settings, too")
    clean.add_argument("--others", action="store_true", help="finished results of other settings, too")
    clean.add_argument("--empty-trash", action="store_true", help="delete what is in exp/.trash for good")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    return top


def _add_place(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--on", choices=["here", "slurm"],
        help="for this command, instead of [workspace] run_on: slurm makes trainings, evaluations and crop caches as jobs",
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
        return commands.COMMANDS[options.command](options)
    except config.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return commands.MISSING_DATA
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command carries on where it stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
