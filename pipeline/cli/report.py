"""Run the command `report`: write a page with the states of the stages and the results into exp/report."""

from datetime import UTC, datetime
from pathlib import Path

from datasets.errors import DataError
from datasets.files import disk_trouble_as_data_error
from pipeline import config
from pipeline.engine.manifest import Manifest
from pipeline.engine.result import lock_of
from pipeline.engine.stage import Stage
from pipeline.engine.trash import Trash
from pipeline.tasks.compare import CompareAccuracy, known
from pipeline.tasks.evaluate import Evaluate
from pipeline.tasks.forecast import CompareForecasts
from stages.reporting import page as report
from stages.reporting.page import Evaluated, Facts, Made, Setting, StageFacts
from stages.settings.luigi_cfg import in_words
from stages.settings.recipes import Recipe
from stages.settings.sections import Settings


def write_report() -> Path:
    """Write exp/report, and return the path of the page. An older report stays until the new report is complete.

    The report can be written before any stage is finished.
    """
    target = config.exp() / "report"
    partial = target.with_name("report.partial")
    with disk_trouble_as_data_error(config.exp()):
        CompareAccuracy().result.make_parent()
        trash = Trash(config.exp())
        with lock_of(target, config.exp()):
            trash.discard(partial)  # a killed process may have left this folder
            partial.mkdir()
            page = report.write(partial, _facts())
            trash.discard(target)
            partial.rename(target)
    return target / page.name


def _facts() -> Facts:
    stages = known()
    standing = {stage.name: _standing(stage) for stage in stages}
    done = {stage.result_path: stage.folder for stage in stages if standing[stage.name].state == "done"}
    comparison = CompareAccuracy()
    compared = {s.name for s in comparison.requires().values()} if comparison.result_path in done else set()
    sources = []
    for stage in stages:
        mine = stage.manifest() if standing[stage.name].state != "unknown" else None
        known_by = mine.identity.external_inputs if mine else {}
        sources += [
            (stage.name, source, known_by.get(name, "not read yet")) for name, source in stage.external_inputs().items()
        ]
    return Facts(
        title=str(config.exp()),
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        stages=list(standing.values()),
        settings=_settings(),
        sources=sources,
        sample="MakeSample" in standing,
        comparison=done.get(comparison.result_path),
        forecasts=done.get(CompareForecasts().result_path),
        further=[
            Evaluated(s.model_stage().result_path, s.model_stage().folder, s.folder)
            for s in stages
            if isinstance(s, Evaluate) and s.result_path in done and s.name not in compared
        ],
        evaluations={s.result_path: s.folder for s in stages if isinstance(s, Evaluate) and s.result_path in done},
    )


def _standing(stage: Stage) -> StageFacts:
    reads = list(dict.fromkeys(needed.name for needed in stage.requires().values()))
    try:
        state = stage.state()
        return StageFacts(stage.name, stage.result_path, state.state, state.why, reads, _made(stage.manifest()))
    except DataError as error:
        return StageFacts(
            stage.name, stage.result_path, "unknown", str(error) if stage.external_inputs() else "an input is unknown", reads
        )


def _made(found: Manifest | None) -> Made | None:
    if not found:
        return None
    version, text = found.identity.version, found.text()
    return Made(version, found.fingerprint, found.content, found.commit, found.seconds, found.finished, found.libraries, text)


def _settings() -> list[Setting]:
    """Return all settings with their current and default values.

    Sections of recipes are left out, because their settings appear in the sections of the trainings that use them.
    """
    current, published = config.settings(), Settings()
    found = []
    for section in Settings.defaults():
        mine, theirs = current.section(section), published.section(section)
        if type(mine) is not Recipe:
            found += [
                Setting(f"[{section}] {name}", in_words(value), in_words(getattr(theirs, name)), name in mine.significant())
                for name, value in mine
            ]
    return found
