"""Every setting of the workspace, one class a section of luigi.cfg: default (the published recipe) and legal range.

Settings are checked when they are built: a wrong value raises `DataError` with the legal ones. A setting that cannot
change a result (places, device, workers ...) is marked `significant=False` and stays out of fingerprints.
What each setting means stands beside it in luigi.cfg.
The published recipe is that of pose-hg-train, branch image-play (options of its scripts and src/opts.lua).
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)  # fmt: skip

from datasets.errors import DataError
from stages.settings.presets import PRESETS

Precision = Literal["float32", "tf32", "bfloat16", "float16", "auto"]
RUNTIMES = ("torch", "onnxruntime", "openvino")  # what a predictor computes with
_MPII_SITE = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr/"


def _insignificant(default: Any, **rules: Any) -> Any:
    """A setting that cannot change a result."""
    return Field(default, json_schema_extra={"significant": False}, **rules)


class Section(BaseModel):
    """Base of all sections: immutable, unknown names refused, texts of luigi.cfg read as the field's type."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise DataError(" ".join(self._sentence(e) for e in error.errors())) from None

    @classmethod
    def _sentence(cls, error: Any) -> str:
        if error["type"] == "extra_forbidden":
            return _unknown(f"setting {error['loc'][0]}", str(error["loc"][0]), list(cls.model_fields))
        if not error["loc"]:
            return str(error["ctx"]["error"])
        message = (
            error["msg"]
            .replace("Input should", "it should")
            .replace("String should", "it should")
            .removeprefix("Value error, ")
        )
        return f"{error['loc'][0]} = {error['input']}: {message}."

    def significant(self) -> dict[str, Any]:
        """Name -> value of the settings that can change a result."""
        insignificant = {n for n, f in type(self).model_fields.items() if f.json_schema_extra}
        return self.model_dump(exclude=insignificant)


def _unknown(what: str, name: str, legal: list[str]) -> str:
    near = difflib.get_close_matches(name, legal, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown {what}.{hint} Legal here: {', '.join(legal)}."


class Workspace(Section):
    """Where and on what the work is done; nothing here changes a result."""

    exp: str = _insignificant("exp", min_length=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = _insignificant("auto")
    workers: int = _insignificant(0, ge=0, le=256)
    processes: int = _insignificant(1, ge=1, le=64)
    machines: int = _insignificant(1, ge=1, le=1024)
    rendezvous: str = _insignificant("", pattern=r"^$|^[^:\s]+:\d+$")
    compile: Literal["auto", "yes", "no"] = _insignificant("auto")
    deterministic: bool = _insignificant(True)
    checkpoint_seconds: float = _insignificant(5.0, gt=0)
    keep_downloads: bool = _insignificant(True)
    folder_identity: Literal["times", "content"] = _insignificant("times")

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

    images: str = _insignificant(_MPII_SITE + "mpii_human_pose_v1.tar.gz", min_length=1)
    annotations: str = _insignificant(_MPII_SITE + "mpii_human_pose_v1_u12_2.zip", min_length=1)
    split_file: str = _insignificant("")
    valid_fraction: float = Field(0.12, gt=0, le=0.9)
    split_seed: int = Field(3, ge=0, lt=2**32)


class PennAction(Section):
    """Penn Action: the archive's source, and how crops are written."""

    archive: str = _insignificant("Penn_Action.tar.gz", min_length=1)
    jpeg_quality: int = Field(95, ge=1, le=100)


def _unquoted(text: str) -> str:
    """Return a text without the quotes around it, which a shell would want around a path with spaces."""
    inside = text[1:-1]
    return inside if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in inside else text


def _not_sample(source: str) -> str:
    if source == "sample":
        raise ValueError("it should be a path or an address: the built-in sample has only MPII and Penn Action")
    return source


_Archive = Annotated[str, AfterValidator(_not_sample)]


class Flic(Section):
    """FLIC: the sources of its images and of the published annotation files, and whose left and right the joints mean."""

    images: _Archive = _insignificant("https://drive.google.com/uc?id=0B4K3PZp8xXDJN0Fpb0piVjQ3Y3M", min_length=1)
    annotations: _Archive = _insignificant(
        "https://github.com/princeton-vl/pose-hg-train/archive/9442c50a97e15dc450c6c1f42032abcddf79b2d4.tar.gz", min_length=1
    )
    sides: Literal["person", "observer"] = "person"


class Lsp(Section):
    """Leeds Sports Pose: the archive's source, and the part of the training images that validates."""

    archive: _Archive = _insignificant("http://sam.johnson.io/research/lsp_dataset.zip", min_length=1)
    valid_fraction: float = Field(0.1, gt=0, le=0.9)
    split_seed: int = Field(3, ge=0, lt=2**32)


class Lspet(Lsp):
    """Leeds Sports Pose Extended."""

    archive: _Archive = _insignificant("http://sam.johnson.io/research/lspet_dataset.zip", min_length=1)


def _numbers(value: Any) -> Any:
    """`4`, `2 2 3` or `2, 2, 3` as a tuple."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return (value,) if isinstance(value, (int, float)) else value


def _as_json(numbers: tuple) -> Any:
    return numbers[0] if len(numbers) == 1 else list(numbers)


_T = TypeVar("_T")
_Numbers = Annotated[tuple[_T, ...], BeforeValidator(_numbers), PlainSerializer(_as_json), Field(min_length=1, max_length=16)]
_Depth = Annotated[int, Field(ge=1, le=6)]
_Count = Annotated[int, Field(ge=1, le=8)]
_Part = Annotated[float, Field(gt=0, lt=1)]
_Width = Annotated[int, Field(ge=2, le=2048, multiple_of=2)]


class Network(Section):
    """The hourglass: a preset, and what differs from it. The defaults are hg-256.

    After reading, every option has its value, so a preset and its options written out are the same settings.
    """

    preset: str = _insignificant("hg-256")
    stacks: int = Field(1, ge=1, le=16)
    stem: _Numbers[_Width] = (64, 128, 128)
    features: int = Field(256, ge=8, le=2048, multiple_of=8)
    outputs: int = Field(256, ge=8, le=2048, multiple_of=8)
    depth: _Numbers[_Depth] = (4,)
    residuals: _Numbers[_Count] = (1,)
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
            raise ValueError(_unknown(f"preset {name}", str(name), list(PRESETS)))
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


class Recipe(Section):
    """How a network is taught; the defaults are the published recipe. Lengths in heatmap pixels, a quarter of the input's."""

    optimizer: Literal["rmsprop", "adam", "adamw"] = "rmsprop"
    learning_rate: float = Field(2.5e-4, gt=0, le=10)
    warmup: int = Field(0, ge=0)
    schedule: Literal["constant", "step", "cosine"] = "constant"
    milestones: _Numbers[_Part] = (0.6, 0.9)
    gamma: float = Field(0.1, gt=0, le=1)
    weight_decay: float = Field(0.0, ge=0, le=1)
    train_redundant_biases: bool = True
    ema: float = Field(0.0, ge=0, lt=1)
    sampling: Literal["shuffled", "consecutive"] = "consecutive"
    crop: Literal["single_warp", "published"] = "published"
    targets: Literal["subpixel", "truncated"] = "truncated"
    subtract_mean: bool = False
    occluded_weight: float = Field(1.0, ge=0, le=1)
    unlabelled_weight: float = Field(1.0, ge=0, le=1)
    target_sigma: float = Field(3.25, gt=0, le=64)
    target_radius: int = Field(6, ge=1, le=128)
    scale_std: float = Field(0.25, ge=0, lt=1)
    rotation_std: float = Field(30.0, ge=0, le=90)
    rotation_probability: float = Field(0.4, ge=0, le=1)
    rotate180_probability: float = Field(0.0, ge=0, le=1)
    colour_jitter: float = Field(0.2, ge=0, le=1)
    flip_probability: float = Field(0.5, ge=0, le=1)
    flip_by: Literal["sample", "batch"] = "batch"
    cutout_probability: float = Field(0.0, ge=0, le=1)
    cutout_size: float = Field(0.25, gt=0, le=1)


class Training(Recipe):
    """One training: a recipe and how long it is followed; the defaults are the published pre-training on MPII."""

    experiment: str = _insignificant("hg-256", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    recipe: Literal["published", "modern"] = _insignificant("published")
    cache: bool = _insignificant(False)  # the crops that it reads are an input, and count as such
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
    branch_from: str = _insignificant("")

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

    experiment: str = _insignificant("hg-256-ft", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    epochs: int = Field(10, ge=1)
    iterations: int = Field(13121, ge=1)
    head: Literal["random", "matching"] = "random"


class Models(Section):
    """Train the two networks, or take precomputed ones (a known name, a path or an address each)."""

    source: Literal["train", "precomputed"] = _insignificant("train")
    mpii: str = _insignificant("hg-256")
    penn_action: str = _insignificant("hg-256-ft")


class Evaluation(Section):
    """How networks are scored, and what is kept."""

    flip_test: bool = True
    test_scales: _Numbers[Annotated[float, Field(ge=0.25, le=4)]] = (1.0,)
    decoder: Literal["subpixel", "quarter", "argmax"] = "subpixel"
    precision: Precision = "float32"
    heatmaps: bool = False
    mpii_test: bool = False


class Comparison(Section):
    """What is compared."""

    scratch: bool = False


class Settings(Section):
    """All sections; the attribute names are the section names of luigi.cfg."""

    workspace: Workspace = Workspace()
    sample: Sample = Sample()
    mpii: Mpii = Mpii()
    penn_action: PennAction = PennAction()
    flic: Flic = Flic()
    lsp: Lsp = Lsp()
    lspet: Lspet = Lspet()
    network: Network = Network()
    input: Input = Input()
    published: Recipe = Recipe()
    modern: Recipe = Recipe(
        optimizer="rmsprop", learning_rate=3e-3, warmup=500, schedule="cosine", train_redundant_biases=False, ema=0.999,
        sampling="shuffled", crop="single_warp", targets="subpixel", unlabelled_weight=0, target_sigma=2, flip_by="sample",
    )  # fmt: skip
    pretrain: Training = Training()
    finetune: Finetuning = Finetuning()
    models: Models = Models()
    evaluate: Evaluation = Evaluation()
    compare: Comparison = Comparison()

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
    def from_text(cls, sections: Mapping[str, Mapping[str, str]]) -> "Settings":
        """Build all settings from the sections of luigi.cfg; errors name the section and the setting.

        What the section of a training does not say, the recipe that it names says.
        """
        for name in sections:
            if name not in cls.model_fields:
                raise DataError(_unknown(f"section [{name}]", name, list(cls.model_fields)))
        built: dict[str, Any] = {}
        for name, field in cls.model_fields.items():  # the recipes stand before the trainings
            written = {setting: _unquoted(text) for setting, text in sections.get(name, {}).items()}
            values = field.default.model_dump(exclude_unset=True) | written
            if isinstance(field.default, Training):
                recipe = built.get(
                    values.get("recipe", field.default.recipe), field.default
                )  # an unknown recipe is refused below
                values = values | recipe.model_dump(include=set(Recipe.model_fields)) | written
            try:
                built[name] = type(field.default)(**values)
            except DataError as error:
                raise DataError(f"[{name}] {error}") from None
        return cls(**built)
