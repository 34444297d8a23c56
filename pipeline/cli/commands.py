"""Define the commands of `python -m pipeline`, each as a function that returns the exit code."""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import textwrap
from datetime import UTC, datetime

import luigi
import luigi.retcodes
from luigi.execution_summary import LuigiStatusCode
from tabulate import tabulate

from datasets.errors import DataError
from datasets.files import size_in_words, time_in_words
from pipeline import config
from pipeline.cli.clean import clean
from pipeline.cli.find import find
from pipeline.cli.search import search
from pipeline.cli.sweep import sweep
from pipeline.config import UsageError
from pipeline.engine import jobs, links, manifest
from pipeline.engine.again import Again, again
from pipeline.engine.digests import without_reading
from pipeline.engine.progress import Progress
from pipeline.engine.stage import JOBS, Stage, with_inputs
from pipeline.tasks.compare import CompareAccuracy, Pipeline, known
from pipeline.tasks.forecast import CompareForecasts
from stages.importing.known_models import KNOWN
from stages.settings.slurm import SLURM_PREFIX

# Exit codes: for an error that is found while no stage runs, such as a damaged training; and for a failed stage, if luigi.cfg
# has no section [retcode]. Luigi's manual recommends these values.
MISSING_DATA, TASK_FAILED = 20, 30
UNKNOWN = "an input is unknown"  # reason that is printed if an archive that an upstream stage reads is missing


def run(options: argparse.Namespace) -> int:
    """Make a stage or the whole chain, with all inputs that are missing; return the exit code."""
    tasks = [Pipeline()] if options.stage == "Pipeline" else find(options.stage)
    _check_stages_of_jobs()
    if options.only:
        _refuse_without_inputs(tasks)
    if options.dry_run:
        _show_plan(tasks)
        return 0
    code = _build(again(_behind(tasks)[-1:]) if options.again else tasks + _damaged(tasks))
    if code == 0:
        _set_links_right(tasks)
        _show_results(tasks)
        if options.stage == "Pipeline":
            report(options)
    return code


def _check_stages_of_jobs() -> None:
    """Raise UsageError if the settings have a section [slurm:STAGE], but no stage has the name STAGE."""
    for name in config.settings().slurm_stages:
        try:
            find(name)
        except UsageError as error:
            raise UsageError(f"[{SLURM_PREFIX}{name}]: {error}") from None


def _show_plan(tasks: list) -> None:
    """Print which stages would run, why, and how long each took when it last ran with any settings."""
    rows, reasons = [], []
    states = {stage.name: _plain_state(stage) for stage in _behind(tasks)}
    needed = _needed(tasks, states)
    for stage in _behind(tasks):
        state, why = states[stage.name]
        if state != "done" and stage.name in needed:
            rows.append([stage.name, state, _took(stage)])
            reasons.append((stage.name, why))
    if rows:
        print(tabulate(rows, ["would be made", "state", "took"], disable_numparse=True, colalign=("left", "left", "right")))
        _print_reasons(reasons)
    else:
        print("Nothing would be made: all is done.")


def _plain_state(stage: Stage) -> tuple[str, str]:
    """Return the state of a stage and the reason for the state."""
    try:
        found = stage.status()
        return found.state, found.why
    except DataError as error:  # an archive that this stage or an upstream stage reads is missing
        return "unknown", str(error) if stage.external_inputs() else UNKNOWN


def _needed(tasks: list, states: dict[str, tuple[str, str]]) -> set[str]:
    """Return the names of the stages that Luigi checks: targets, damaged stages, and inputs of stages that are not done."""
    found = set[str]()
    checked = [*_targets(tasks), *(stage for stage in _behind(tasks) if states[stage.name][0] == "damaged")]
    while checked:
        stage = checked.pop()
        if stage.name not in found:
            found.add(stage.name)
            checked += stage.requires().values() if states[stage.name][0] != "done" else []
    return found


def _print_reasons(reasons: list[tuple[str, str]]) -> None:
    """Print each distinct reason once, after the names of the stages that have it.

    reasons: pairs of stage name and reason. If the output is no terminal, each reason is on a single line.
    """
    stages: dict[str, list[str]] = {}
    for name, why in reasons:
        if why:
            stages.setdefault(why, []).append(name)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for number, (why, names) in enumerate(stages.items()):
        text = textwrap.fill(f"{', '.join(names)}: {why}", width, subsequent_indent="  ", break_long_words=False)
        print(text if number else f"\n{text}")


def _took(stage: Stage) -> str:
    """Return, as text, how long a stage's previous result (see Result.previous) took; "" if the stage has no result."""
    before = stage.result.previous(stage.name)
    return time_in_words(before.seconds) if before else ""


def _behind(tasks: list) -> list[Stage]:
    """Return the stages of tasks, and all direct and indirect inputs of these stages."""
    return with_inputs(_targets(tasks))


def _targets(tasks: list) -> list[Stage]:
    """Return the stages of tasks."""
    return [stage for task in tasks for stage in (task.stages() if isinstance(task, Pipeline) else [task])]


def _damaged(tasks: list) -> list[Stage]:
    """Find the damaged results of `tasks` and of all their inputs; return their stages, which `run` then makes again.

    This function is needed because Luigi does not check the inputs of a finished task. Raises DataError for a damaged result
    that only `rerun` may make again, such as a training.
    """
    found = []
    for stage in _behind(tasks):
        with contextlib.suppress(DataError):  # an archive is missing; the stage that reads it reports the error
            state = stage.status()
            if state.state == "damaged":
                found.append((stage, state.why))
    for stage, what in found:
        if not stage.remade_unasked:
            raise stage.damaged(what)
    return [stage for stage, _ in found]


def _set_links_right(tasks: list) -> None:
    """Update the symlinks of stages and of all their inputs to the current settings.

    The task Pipeline does not need this function, because its method `complete` updates the symlinks.
    """
    for stage in with_inputs(task for task in tasks if isinstance(task, Stage)):
        stage.complete()


def _refuse_without_inputs(tasks: list) -> None:
    for stage in tasks:
        for needed in stage.requires().values() if isinstance(stage, Stage) else stage.requires():
            if not needed.complete():
                raise UsageError(
                    f"{getattr(stage, 'name', 'Pipeline')} needs {needed.name}, which is {needed.status().state}; "
                    f"make it with: {config.command('run ' + needed.name)}"
                )


def _build(tasks: list) -> int:
    """Let Luigi make tasks; return 0 or the exit code that the section [retcode] of luigi.cfg defines for the error."""
    if all(task.complete() for task in tasks):
        return 0
    before = _finished()
    settings = config.settings()
    workers = settings.slurm.jobs if settings.workspace.run_on == "slurm" else 1
    if workers > 1:  # Ctrl-C interrupts only Luigi's main process, which ends the workers
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        result = luigi.build(tasks, local_scheduler=True, workers=workers, detailed_summary=True, log_level="WARNING")
    except KeyboardInterrupt:
        _say_what_goes_on(tasks)
        raise
    if result.status not in (LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY) and _stale_in_between(before):
        return _build(tasks)
    if result.status in (LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY):
        return 0
    codes = luigi.retcodes.retcode()
    return {
        LuigiStatusCode.SCHEDULING_FAILED: codes.scheduling_error,
        LuigiStatusCode.NOT_RUN: codes.not_run,
        LuigiStatusCode.MISSING_EXT: codes.missing_data,
    }.get(result.status, codes.task_failed) or TASK_FAILED


def _say_what_goes_on(tasks: list) -> None:
    """Print the jobs of Slurm that an interrupted command leaves in the queue."""
    for stage in _behind([task.stage if isinstance(task, Again) else task for task in tasks]):
        with contextlib.suppress(DataError):  # an archive is missing, so no job of this stage can have been submitted
            job = stage.job(again=False)
            if job and (number := jobs.going_on(job.name, config.exp() / JOBS / job.name)):
                print(f"{job.name} goes on as Slurm job {number}; to end it: scancel {number}", file=sys.stderr)


def _finished() -> dict[str, str]:
    """Return the digest of each finished result's content: name of the stage -> digest."""
    contents = {}
    for stage in known():
        with contextlib.suppress(DataError):  # an archive is missing; the stage that reads it reports the error
            if found := stage.manifest():
                contents[stage.name] = found.content
    return contents


def _stale_in_between(before: dict[str, str]) -> bool:
    """Return whether a finished stage became stale because its deleted input was made again with different content.

    before: the value of `_finished` before Luigi made the tasks.
    """
    now = _finished()
    stale = [stage for stage in known() if stage.name in before and stage.status().state == "stale"]
    return now != before and any(now.get(stage.name) == before[stage.name] for stage in stale)


def _show_results(tasks: list) -> None:
    for task in tasks:
        if isinstance(task, (Pipeline, CompareAccuracy)):
            compared = CompareAccuracy().folder
            print((compared / "accuracy.txt").read_text())
            if isinstance(task, Pipeline):
                print(f"weights      {Pipeline().requires()[1].folder}")
            print(f"predictions  {compared / 'predictions.png'}\ncurves       {compared / 'curves_*.png'}")
        if isinstance(task, CompareForecasts) or (isinstance(task, Pipeline) and CompareForecasts() in task.requires()):
            compared = CompareForecasts().folder
            print(f"\n{(compared / 'summary.txt').read_text()}\nforecasts    {compared / 'strips.png'}")
        if not isinstance(task, (Pipeline, CompareAccuracy, CompareForecasts)):
            print(f"{task.name}: {task.folder}")


def status(options: argparse.Namespace) -> int:
    """Print the table of the stages; stages outside the chain are shown only if they have a result.

    For a stage without a result of the current settings, the table shows the time that its latest result with other settings
    took.
    """
    with without_reading():
        rows = [_status_row(stage) for stage in known()]
    heads = ["stage", "state", "size", "age", "time", "result"]
    sides = ("left", "left", "right", "right", "right", "left")
    print(tabulate([row for row, _ in rows], heads, disable_numparse=True, colalign=sides))
    _print_reasons([(row[0], why) for row, why in rows])
    return 0


def _status_row(stage: Stage) -> tuple[list[str], str]:
    """Return a stage's row of the table, and the reason for its state."""
    try:
        state, mine = stage.state(), stage.manifest()
    except DataError as error:
        return [stage.name, "unknown", "", "", "", ""], str(error) if stage.external_inputs() else UNKNOWN
    result = stage.folder.name.rpartition("@")[2]
    why = "; ".join(filter(None, [state.why, links.elsewhere(stage.result)]))
    if not mine:
        took = _took(stage)
        return [stage.name, state.state, "", "", f"~ {took}" if took else "", result], why
    with contextlib.suppress(DataError):  # a file or folder is at the symlink's path; the text `why` says so
        links.follow_settings(stage.result)
    facts = [size_in_words(mine.files.bytes), _age(mine.finished), time_in_words(mine.seconds), result]
    return [stage.name, state.state, *facts], why


def _age(finished: datetime) -> str:
    return time_in_words(max(0.0, (datetime.now(UTC) - finished).total_seconds()))  # the clock may have been moved back


def report(options: argparse.Namespace) -> int:
    """Write the report into exp/report and print its path."""
    from pipeline.cli.report import write_report

    with without_reading():
        print(f"report       {write_report()}")
    return 0


def why(options: argparse.Namespace) -> int:
    """Print the state of a stage, the reason for this state, and the stage's result folder."""
    for stage in find(options.stage):
        state = stage.state()
        print(f"{stage.name} is {state.state}" + (f": {state.why}" if state.why else ""))
        print(f"  result: {stage.folder}" + ("" if stage.manifest() else ", not there"))
        if not stage.manifest() and (took := _took(stage)):
            print(f"  with other settings it took {took}")
        if pointed := links.elsewhere(stage.result):
            print(f"  {pointed}")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Recompute the digests of all files of finished results; return 1 if a file has changed or is not checked, otherwise 0."""
    damaged = False
    for stage in find(options.stage) if options.stage else known():
        try:
            if mine := stage.manifest():
                with Progress(stage) as report:
                    found = manifest.damage(stage.folder, mine.content, report)
                print(f"{stage.folder}: {found or 'whole'}")
                damaged = damaged or bool(found)
        except DataError as error:  # an archive is missing, so it is unknown which result is current
            if options.stage or stage.result.previous(stage.name):
                print(f"{stage.name}: not checked, because it is unknown which result is current: {error}")
                damaged = True
    return 1 if damaged else 0


def rerun(options: argparse.Namespace) -> int:
    """Make stages again; if the content of their results changed, also the downstream stages that have results.

    Return the exit code.
    """
    stages = find(options.stage)
    before = _finished()
    made = [stage for stage in known() if stage.name in before]
    _refuse_without_inputs(stages)
    code = _build(again(stages))
    if code:
        return code
    changed = [s for s in made if not s.complete()]
    same = all(_finished().get(stage.name) == before.get(stage.name) for stage in stages)
    print(
        f"To be redone: {', '.join(s.name for s in changed)}" if changed
        else "The content is the same as before: nothing else to do." if same
        else "The content changed; no other result was made from it."
    )  # fmt: skip
    return _build(changed)


def models(options: argparse.Namespace) -> int:
    """Print the table of known published networks, with the licence and source of each."""
    rows = [[m.name, m.trained_on or m.dataset, m.joints, m.accuracy or "not stated"] for m in KNOWN.values()]
    heads = ["name", "trained on", "joints", "published accuracy"]
    print(tabulate(rows, heads, disable_numparse=True, maxcolwidths=[None, None, None, 30]))
    for model in KNOWN.values():
        print(f"\n{model.name}: for [models] {' or '.join(model.settings)}; licence: {model.licence}\n  {model.source()}")
    return 0


def settings(options: argparse.Namespace) -> int:
    """Print the default luigi.cfg: every setting with its meaning and default."""
    from stages.settings import luigi_cfg

    print(luigi_cfg.text(), end="")
    return 0


COMMANDS = {
    "run": run,
    "sweep": lambda options: (search if options.search or options.prune else sweep)(options),
    "status": status,
    "report": report,
    "why": why,
    "verify": verify,
    "rerun": rerun,
    "models": models,
    "settings": settings,
    "clean": clean,
}
