"""Every setting of the workspace, one class a section of luigi.cfg: default (the published recipe) and legal range.

What each setting means stands beside it in luigi.cfg.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from datasets.errors import DataError
from stages.settings.presets import PRESETS
from stages.settings.recipes import PREFIX, PUBLISHED, Recipe, read_recipes
from stages.settings.section import Numbers, Section, insignificant, unknown, unquoted

Precision = Literal["float32", "tf32", "bfloat16", "float16", "auto"]
RUNTIMES = ("torch", "onnxruntime", "openvino")  # what a predictor computes with
_MPII_SITE = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr/"


class Workspace(Section):
    """Where and on what the work is done; nothing here changes a result."""

    exp: str = insignificant("exp", min_length=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = insignificant("auto")
    workers: int = insignificant(0, ge=0, le=256)
    processes: int = insignificant(1, ge=1, le=64)
    machines: int = insignificant(1, ge=1, le=1024)
    rendezvous: str = insignificant("", pattern=r"^$|^[^:\s]+:\d+$")
    compile: Literal["auto", "yes", "no"] = insignificant("auto")
    deterministic: bool = insignificant(True)
    checkpoint_seconds: float = insignificant(5.0, gt=0)
    keep_downloads: bool = insignificant(True)
    folder_identity: Literal["times", "content"] = insignificant("times")

    @model_validator(mode="after")
    def _machines_meet(self) -> "Workspace":
        if self.machines > 1 and not self.rendezvous:
            raise ValueError("machines > 1 need a rendezvous: the address and a free port of one of them, host:port.")
        return self


class Sample(Section):
    """The built-in sample data that a source named `sample` stands for."""

    people: int = Field(1200, ge=20, le=100_000)
    sequences: int = Field(12, ge=10, le=1000)
    frames: int = Field(20, ge=4, le=600)
    seed: int = Field(1, ge=0, lt=2**32)


class Mpii(Section):
    """MPII Human Pose. A source is a path, addresses, or the word `sample`; a path counts by content, not by place."""

    images: str = insignificant(_MPII_SITE + "mpii_human_pose_v1.tar.gz", min_length=1)
    annotations: str = insignificant(_MPII_SITE + "mpii_human_pose_v1_u12_2.zip", min_length=1)
    split_file: str = insignificant("")
    valid_fraction: float = Field(0.12, gt=0, le=0.9)
    split_seed: int = Field(3, ge=0, lt=2**32)


class PennAction(Section):
    """Penn Action: the archive's source, and how crops are written."""

    archive: str = insignificant("Penn_Action.tar.gz", min_length=1)
    jpeg_quality: int = Field(95, ge=1, le=100)


def _not_sample(source: str) -> str:
    if source == "sample":
        raise ValueError("it should be a path or an address: the built-in sample has only MPII and Penn Action")
    return source


_Archive = Annotated[str, AfterValidator(_not_sample)]


class Flic(Section):
    """FLIC: the sources of its images and of the published annotation files, and whose left and right the joints mean."""

    images: _Archive = insignificant("https://drive.google.com/uc?id=0B4K3PZp8xXDJN0Fpb0piVjQ3Y3M", min_length=1)
    annotations: _Archive = insignificant(
        "https://github.com/princeton-vl/pose-hg-train/archive/9442c50a97e15dc450c6c1f42032abcddf79b2d4.tar.gz", min_length=1
    )
    sides: Literal["person", "observer"] = "person"


class Lsp(Section):
    """Leeds Sports Pose: the archive's source, and the part of the training images that validates."""

    archive: _Archive = insignificant("http://sam.johnson.io/research/lsp_dataset.zip", min_length=1)
    valid_fraction: float = Field(0.1, gt=0, le=0.9)
    split_seed: int = Field(3, ge=0, lt=2**32)


class Lspet(Lsp):
    """Leeds Sports Pose Extended."""

    archive: _Archive = insignificant("http://sam.johnson.io/research/lspet_dataset.zip", min_length=1)


Depth = Annotated[int, Field(ge=1, le=6)]
Count = Annotated[int, Field(ge=1, le=8)]
Width = Annotated[int, Field(ge=2, le=2048, multiple_of=2)]


class Network(Section):
    """The hourglass: a preset, and what differs from it. The defaults are hg-256.

    After reading, every option has its value, so a preset and its options written out are the same settings.
    """

    preset: str = insignificant("hg-256")
    stacks: int = Field(1, ge=1, le=16)
    stem: Numbers[Width] = (64, 128, 128)
    features: int = Field(256, ge=8, le=2048, multiple_of=8)
    outputs: int = Field(256, ge=8, le=2048, multiple_of=8)
    depth: Numbers[Depth] = (4,)
    residuals: Numbers[Count] = (1,)
    block: Literal["bottleneck", "four", "mobile"] = "bottleneck"
    norm: Literal["batch", "instance", "group"] = "batch"
    upper: bool = True
    head_residuals: int = Field(0, ge=0, le=8)
    head_layers: int = Field(1, ge=1, le=8)
    join: Literal["sum", "remap", "concatenate"] = "sum"
    initial: Literal["torch7", "pytorch"] = "torch7"

    @model_validator(mode="before")
    @classmethod
    def _rest_as_in_the_preset(cls, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("preset") or "hg-256"
        if name not in PRESETS:
            raise ValueError(unknown(f"preset {name}", str(name), list(PRESETS)))
        options = PRESETS[name] | {key: value for key, value in given.items() if value != ""}
        return {"outputs": options["features"]} | options if "features" in options else options

    @field_validator("depth", "residuals")
    @classmethod
    def _one_if_all_are_equal(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        return numbers[:1] if len(set(numbers)) == 1 else numbers

    @model_validator(mode="after")
    def _options_agree(self) -> "Network":
        if len(self.depth) not in (1, self.stacks):
            raise ValueError(
                f"depth has {len(self.depth)} numbers; it should be one, or one for each of the {self.stacks} stacks."
            )
        if len(self.residuals) not in (1, 4):
            raise ValueError("residuals should be one number, or four: upper branch, way down, innermost, way up.")
        if self.join == "sum" and self.stacks > 1 and self.outputs != self.features:
            raise ValueError(f"join = sum needs outputs = features, and they are {self.outputs} and {self.features}.")
        return self


class Input(Section):
    """What the network sees, in pixels."""

    resolution: int = Field(256, ge=32, le=2048, multiple_of=4)

    @property
    def heatmap(self) -> int:
        """Side of the heatmaps in pixels: the stem halves the input twice."""
        return self.resolution // 4


class Training(Recipe):
    """One training: a recipe and how long it is followed; the defaults are the published pre-training on MPII."""

    experiment: str = insignificant("hg-256", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    recipe: str = insignificant(PUBLISHED)
    cache: bool = insignificant(False)  # the crops that it reads are an input, and count as such
    epochs: int = Field(100, ge=1)
    iterations: int = Field(4000, ge=1)
    batch: int = Field(6, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    precision: Precision = "float32"
    seed: int = Field(3, ge=0, lt=2**32)
    stop_after: int = Field(0, ge=0)
    early_stop: float = Field(0.0, ge=0, lt=1)
    snapshot_epochs: int = Field(5, ge=0)
    keep_last: int = Field(0, ge=0)
    branch_from: str = insignificant("")

    @property
    def branch_file(self) -> str:
        """The checkpoint that `branch_from` means, itself or the last one in the folder that it names; empty: none."""
        named = self.branch_from
        return named if not named or named.endswith(".safetensors") else f"{named.rstrip('/')}/last.safetensors"

    @field_validator("experiment")
    @classmethod
    def _no_ending_of_ours(cls, name: str) -> str:
        if name.endswith((".partial", ".lock")):
            raise ValueError("it should not end in .partial or .lock, as folders and files of unfinished results do")
        return name


class Finetuning(Training):
    """Fine-tuning on Penn Action; the defaults are the published ones."""

    experiment: str = insignificant("hg-256-ft", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    epochs: int = Field(10, ge=1)
    iterations: int = Field(13121, ge=1)
    head: Literal["random", "matching"] = "random"


class Models(Section):
    """Train the two networks, or take precomputed ones (a known name, a path or an address each)."""

    source: Literal["train", "precomputed"] = insignificant("train")
    mpii: str = insignificant("hg-256")
    penn_action: str = insignificant("hg-256-ft")


class Evaluation(Section):
    """How networks are scored, and what is kept."""

    flip_test: bool = True
    test_scales: Numbers[Annotated[float, Field(ge=0.25, le=4)]] = (1.0,)
    decoder: Literal["subpixel", "quarter", "argmax"] = "subpixel"
    precision: Precision = "float32"
    heatmaps: bool = False
    mpii_test: bool = False


class Comparison(Section):
    """What is compared."""

    scratch: bool = False


class Settings(Section):
    """All sections, named as in luigi.cfg, and the recipes by name."""

    workspace: Workspace = Workspace()
    sample: Sample = Sample()
    mpii: Mpii = Mpii()
    penn_action: PennAction = PennAction()
    flic: Flic = Flic()
    lsp: Lsp = Lsp()
    lspet: Lspet = Lspet()
    network: Network = Network()
    input: Input = Input()
    pretrain: Training = Training()
    finetune: Finetuning = Finetuning()
    models: Models = Models()
    evaluate: Evaluation = Evaluation()
    compare: Comparison = Comparison()
    recipes: dict[str, Recipe] = read_recipes({})

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        if self.models.source == "precomputed" and not (self.models.mpii and self.models.penn_action):
            raise ValueError(
                "[models] source = precomputed needs the names, paths or addresses of two networks, mpii and penn_action; "
                "python -m pipeline models lists the names."
            )
        if self.pretrain.experiment.lower() == self.finetune.experiment.lower():  # the same file on a disk that ignores case
            raise ValueError(
                f"[pretrain] and [finetune] both have experiment = {self.finetune.experiment}; give them two names: both stand "
                "below exp/<dataset>/."
            )
        side, depth = self.input.heatmap, max(self.network.depth)
        if side % 2**depth:
            raise ValueError(
                f"[input] resolution = {self.input.resolution} gives heatmaps of {side} px, which an hourglass of [network] "
                f"depth = {depth} cannot halve {depth} times; use a multiple of {4 * 2**depth} or a smaller depth."
            )
        norm = self.network.norm
        parts = [t.batch // min(t.batch, t.gradient_accumulation) for t in (self.pretrain, self.finetune)]
        alone = norm == "instance" or (norm == "batch" and 1 in parts)
        if side == 2**depth and alone:
            raise ValueError(
                f"[network] depth = {depth} halves the heatmaps of {side} px to one, and over that norm = {norm} has nothing "
                f"to average; use a smaller depth{' or a larger batch, in fewer parts' if norm == 'batch' else ''}."
            )
        return self

    @classmethod
    def section_names(cls) -> list[str]:
        """Return the names of the sections other than recipes."""
        return [name for name, field in cls.model_fields.items() if isinstance(field.default, Section)]

    @classmethod
    def from_text(cls, sections: Mapping[str, Mapping[str, str]]) -> "Settings":
        """Build all settings from the sections of luigi.cfg; errors name the section and the setting.

        What the section of a training does not set is taken from the recipe that it names.
        """
        for name in sections:
            if name not in cls.section_names() and not name.startswith(PREFIX):
                raise DataError(unknown(f"section [{name}]", name, [*cls.section_names(), f"{PREFIX}NAME"]))
        recipes = read_recipes(sections)
        built: dict[str, Any] = {"recipes": recipes}
        for name in cls.section_names():
            default = cls.model_fields[name].default
            values = {setting: unquoted(text) for setting, text in sections.get(name, {}).items()}
            if isinstance(default, Training):
                chosen = values.get("recipe", default.recipe)
                if chosen not in recipes:
                    raise DataError(f"[{name}] recipe = {chosen}: {unknown(f'recipe {chosen}', chosen, list(recipes))}")
                values = recipes[chosen].model_dump() | values
            try:
                built[name] = type(default)(**values)
            except DataError as error:
                raise DataError(f"[{name}] {error}") from None
        return cls(**built)
