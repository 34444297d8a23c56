"""Find stages by the names given on the command line."""

import difflib

import luigi

from pipeline.config import UsageError
from pipeline.engine.stage import Stage
from pipeline.tasks.compare import Pipeline, others


def find(name: str) -> list[Stage]:
    """Return the stages whose name is, or begins with, `name`: EvaluatePenn means EvaluatePenn:pretrained and :finetuned.

    If `name` fits stages of the chain (the stages of the task Pipeline), only stages of the chain are returned. The name of a
    stage outside the chain must include at least the dataset (Evaluate:lsp, not Evaluate), unless the name fits only one stage.
    Stages of the chain can also be named by class and dataset: Annotate:mpii is AnnotateMpii. Raises UsageError if no stage has
    the name.
    """
    chain, further = Pipeline().stages(), others()
    if name == "Pipeline":
        return chain
    for stages in (chain, further):
        found = [stage for stage in stages if f"{stage.name}:".startswith(f"{name}:")]
        if ":" in name and not found:
            found = [stage for stage in stages if f"{_by_dataset(stage)}:".startswith(f"{name}:")]
        if found and (stages is chain or ":" in name or len(found) == 1):
            return found
    names = ["Pipeline", *(s.name for s in chain + further)]
    near = difflib.get_close_matches(name.title() if name.islower() else name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    # The message lists only the first part of each name, such as Evaluate, because there are dozens of full names.
    kinds = dict.fromkeys(stage.name.partition(":")[0] for stage in further)
    raise UsageError(
        f"there is no stage {name}.{hint} The stages of the chain are {', '.join(stage.name for stage in chain)}. "
        f"Stages outside the chain have names like Evaluate:lsp:pretrained; the names begin with {', '.join(kinds)}."
    )


def _by_dataset(stage: Stage) -> str:
    """Return a stage's name in the form CLASS:DATASET or CLASS:DATASET:MODEL, such as Export:penn_action:finetuned.

    CLASS is the class that defines the parameter `dataset`: the stage's class or a base class. If no class defines this
    parameter, return the name of the stage.
    """
    for kind in type(stage).__mro__:
        if isinstance(vars(kind).get("dataset"), luigi.Parameter):
            return ":".join([kind.__name__, *(getattr(stage, part) for part in ("dataset", "model") if hasattr(stage, part))])
    return stage.name
