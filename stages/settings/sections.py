"""Every setting of the workspace, one class a section of luigi.cfg: default (the published recipe) and legal range.

`stages.settings.luigi_cfg` writes luigi.cfg from the meanings here.
"""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from datasets.catalog import DATASETS
from datasets.errors import DataError
from datasets.mocap.sources import Mocap
from datasets.section import Numbers, Section, insignificant, setting, unknown, unquoted
from stages.settings.forecasting import Forecaster, ForecastTraining, PoseOnly
from stages.settings.lifting import Converter, ConverterTraining, Lifter
from stages.settings.presets import PRESETS
from stages.settings.recipes import BUILT_IN, PREFIX, Recipe, read_recipes
from stages.settings.trainings import Finetuning, Precision, Training

RUNTIMES = ("torch", "onnxruntime", "openvino")  # what a predictor computes with


class Workspace(Section):
    """Where and on what the work is done; nothing here changes a result."""

    intro = "The workspace. No setting of this section changes a result."

    exp: str = insignificant("exp", "Folder of all results.", min_length=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = insignificant(
        "auto", "Device that networks run on: auto (CUDA if available, else MPS, else CPU), cpu, cuda or mps."
    )
    workers: int = insignificant(0, "Worker processes that read and crop images; 0: one per CPU core.", ge=0, le=256)
    processes: int = insignificant(
        1,
        "Processes that train one network together on this machine; each takes a GPU of its own where there are enough.",
        ge=1,
        le=64,
    )
    machines: int = insignificant(1, "Machines that train one network together; each machine has its own exp/.", ge=1, le=1024)
    rendezvous: str = insignificant(
        "",
        "Address where the machines meet, host:port, with a free port of one of the machines. Needed for machines > 1.",
        pattern=r"^$|^[^:\s]+:\d+$",
    )
    compile: Literal["auto", "yes", "no"] = insignificant(
        "auto",
        "Compile the network with torch.compile before training, which takes about a minute: yes, no, or auto (on "
        "CUDA, for trainings of a million images or more).",
    )
    deterministic: bool = insignificant(
        True, "Let cuDNN use only deterministic algorithms: equal runs give equal bits. false is faster."
    )
    checkpoint_seconds: float = insignificant(
        5.0, "Seconds between the checkpoints that a stopped training resumes from.", gt=0
    )
    keep_downloads: bool = insignificant(
        True, "Keep downloaded archives in exp/downloads after they are unpacked: true or false."
    )
    folder_identity: Literal["times", "content"] = insignificant(
        "times",
        "How the files of an unpacked dataset are identified: times (name, size and modification time of each "
        "file) or content (sha256 of each file, computed again where a time changes; a copied folder then keeps "
        "its results).",
    )

    @model_validator(mode="after")
    def _machines_meet(self) -> "Workspace":
        if self.machines > 1 and not self.rendezvous:
            raise ValueError("machines > 1 need a rendezvous: the address and a free port of one of them, host:port.")
        return self


Depth = Annotated[int, Field(ge=1, le=6)]
Count = Annotated[int, Field(ge=1, le=8)]
Width = Annotated[int, Field(ge=2, le=2048, multiple_of=2)]


class Network(Section):
    """The hourglass: a preset, and what differs from it. The defaults are hg-256.

    After reading, every option has its value, so a preset and its options written out are the same settings.
    """

    intro = "The hourglass network. A setting that is empty has the value of the preset."

    preset: str = insignificant("hg-256", "Name of a published network; python -m tools.describe --list shows all.")
    stacks: int = setting(1, "Number of hourglasses, one after the other.", ge=1, le=16)
    stem: Numbers[Width] = setting(
        (64, 128, 128),
        "Channels of the stem: of its convolution and of its residual blocks, except the last, which has `features`.",
    )
    features: int = setting(256, "Channels inside each hourglass; a multiple of 8.", ge=8, le=2048, multiple_of=8)
    outputs: int = setting(
        256,
        "Output channels of each hourglass. Empty, and not in the preset: same as `features`.",
        ge=8,
        le=2048,
        multiple_of=8,
    )
    depth: Numbers[Depth] = setting((4,), "How many times an hourglass halves its input: one number, or one for each stack.")
    residuals: Numbers[Count] = setting(
        (1,), "Residual blocks in a row: one number for all places, or four: upper branch, way down, innermost level, way up."
    )
    block: Literal["bottleneck", "four", "mobile"] = setting(
        "bottleneck",
        "Kind of residual block: bottleneck (pre-activation), four (conv-ReLU-norm) or mobile (depthwise-"
        "separable bottleneck).",
    )
    norm: Literal["batch", "instance", "group"] = setting("batch", "Normalisation: batch, instance or group.")
    upper: bool = setting(True, "Give each level of an hourglass an upper branch: true or false.")
    head_residuals: int = setting(0, "Residual blocks between an hourglass and its heatmaps.", ge=0, le=8)
    head_layers: int = setting(1, "1x1 convolutions with normalisation and ReLU after those residual blocks.", ge=1, le=8)
    join: Literal["sum", "remap", "concatenate"] = setting(
        "sum",
        "Input of the next hourglass: sum (input + output), remap (input + remapped features and heatmaps), or "
        "concatenate (remapped features and heatmaps, concatenated with the pooled stem features).",
    )
    initial: Literal["torch7", "pytorch"] = setting(
        "torch7", "Initial scale of batch normalisation: torch7 (uniform in 0..1) or pytorch (1)."
    )

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

    intro = "The input of the network."

    resolution: int = setting(
        256, "Side of the input in pixels; heatmaps have a quarter of this side.", ge=32, le=2048, multiple_of=4
    )

    @property
    def heatmap(self) -> int:
        """Side of the heatmaps in pixels: the stem halves the input twice."""
        return self.resolution // 4


class Models(Section):
    """Train the two networks, or take precomputed ones (a known name, a path or an address each)."""

    intro = "Where the two networks of the chain come from."

    source: Literal["train", "precomputed"] = insignificant(
        "train", "train, or precomputed: use the two networks below instead of training."
    )
    mpii: str = insignificant(
        "hg-256",
        "The MPII network: a name that python -m pipeline models lists; a source of a .safetensors file of this "
        "workspace, a published best_model.t7, a checkpoint of a PyTorch port, or the published archive or its "
        "folder; or a name followed by the source of that network.",
    )
    penn_action: str = insignificant("hg-256-ft", "The Penn Action network, in the same forms.")


class Evaluation(Section):
    """How networks are scored, and what is kept."""

    intro = "How networks are evaluated, and which files are kept."

    flip_test: bool = setting(True, "Average the heatmaps of the image and of the mirrored image.")
    test_scales: Numbers[Annotated[float, Field(ge=0.25, le=4)]] = setting(
        (1.0,), "Average the heatmaps over boxes of these relative sizes, such as 1 0.85 1.15, in the frame of the first."
    )
    decoder: Literal["subpixel", "quarter", "argmax"] = setting(
        "subpixel",
        "From heatmap to joint: subpixel, quarter (a quarter pixel towards the larger neighbour, as published) or argmax.",
    )
    precision: Precision = setting("float32", "As in [pretrain].")
    heatmaps: bool = setting(False, "Keep the heatmaps, too (at the published size 262 kB for each person of MPII).")
    mpii_test: bool = setting(
        False, "Also predict the test people of MPII and write the predictions in the format of MPII's evaluation server."
    )


class Comparison(Section):
    """What is compared."""

    intro = "What is compared."

    scratch: bool = setting(
        False, "Also train a network on Penn Action from random weights, with [network] and [pretrain], and compare it."
    )


class Sample(Section):
    """The built-in sample data that a source named `sample` stands for."""

    intro = "The built-in sample: drawn people, used where a source is the word `sample`."

    people: int = setting(1200, "Number of people in the MPII sample.", ge=20, le=100_000)
    sequences: int = setting(12, "Number of sequences of each action in the Penn Action sample.", ge=10, le=1000)
    frames: int = setting(20, "Smallest number of frames of a sequence; the largest is 4 more.", ge=4, le=600)
    seed: int = setting(1, "Seed of the drawings.", ge=0, lt=2**32)


class Settings(Section):
    """All sections, named as in luigi.cfg; those of the datasets and of the recipes by name."""

    workspace: Workspace = Workspace()
    datasets: dict[str, Section] = {name: dataset.settings() for name, dataset in DATASETS.items()}
    network: Network = Network()
    input: Input = Input()
    pretrain: Training = Training()
    finetune: Finetuning = Finetuning()
    forecaster: Forecaster = Forecaster()
    forecast: ForecastTraining = ForecastTraining(**BUILT_IN["forecast"])
    pose_only: PoseOnly = PoseOnly()
    mocap: Mocap = Mocap()
    converter: Converter = Converter()
    train_converter: ConverterTraining = ConverterTraining(**BUILT_IN["converter"])
    lifter: Lifter = Lifter()
    models: Models = Models()
    evaluate: Evaluation = Evaluation()
    compare: Comparison = Comparison()
    sample: Sample = Sample()
    recipes: dict[str, Recipe] = read_recipes({})

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        if self.models.source == "precomputed" and not (self.models.mpii and self.models.penn_action):
            raise ValueError(
                "[models] source = precomputed needs the names, paths or addresses of two networks, mpii and penn_action; "
                "python -m pipeline models lists the names."
            )
        trainings = {"pretrain": self.pretrain, "finetune": self.finetune, "forecast": self.forecast}
        for (one, first), (other, second) in itertools.combinations(trainings.items(), 2):
            if first.experiment.lower() == second.experiment.lower():  # the same file on a disk that ignores case
                raise ValueError(
                    f"[{one}] and [{other}] both have experiment = {second.experiment}; give them two names: both stand below "
                    "exp/<dataset>/."
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
    def defaults(cls) -> dict[str, Section]:
        """Return the sections other than recipes, by the names that luigi.cfg gives them, with their defaults."""
        found: dict[str, Section] = {}
        for name, field in cls.model_fields.items():
            if name == "datasets":
                found |= field.default
            elif isinstance(field.default, Section):
                found[name] = field.default
        return found

    def section(self, name: str) -> Section:
        """Return the section of a name in luigi.cfg."""
        return self.datasets[name] if name in self.datasets else getattr(self, name)

    @classmethod
    def from_text(cls, sections: Mapping[str, Mapping[str, str]]) -> "Settings":
        """Build all settings from the sections of luigi.cfg; errors name the section and the setting.

        What the section of a training does not set is taken from the recipe that it names.
        """
        defaults = cls.defaults()
        for name in sections:
            if name not in defaults and not name.startswith(PREFIX):
                raise DataError(unknown(f"section [{name}]", name, [*defaults, f"{PREFIX}NAME"]))
        recipes = read_recipes(sections)
        built: dict[str, Any] = {}
        for name, default in defaults.items():
            values = {key: unquoted(text) for key, text in sections.get(name, {}).items()}
            if isinstance(default, Training):
                chosen = values.get("recipe", default.recipe)
                if chosen not in recipes:
                    raise DataError(f"[{name}] recipe = {chosen}: {unknown(f'recipe {chosen}', chosen, list(recipes))}")
                values = recipes[chosen].model_dump() | values
            try:
                built[name] = type(default)(**values)
            except DataError as error:
                raise DataError(f"[{name}] {error}") from None
        datasets = {name: built.pop(name) for name in DATASETS}
        return cls(**built, datasets=datasets, recipes=recipes)
