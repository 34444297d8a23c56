"""Define the settings of the workspace: one class per section of luigi.cfg, with the default and legal range of each setting.

The defaults of [network], [input], [pretrain] and [finetune] are those of the published program, pose-hg-train (branch
image-play). `stages.settings.luigi_cfg` writes luigi.cfg from these classes.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from datasets import own
from datasets.catalog import DATASETS
from datasets.dataset import Dataset
from datasets.errors import DataError
from datasets.mocap.settings import Mocap
from datasets.section import Numbers, Section, insignificant, setting, unknown, unquoted
from stages.settings.forecasting import Forecaster, ForecastTraining, PoseOnly
from stages.settings.lifting import Converter, ConverterTraining, Lifter
from stages.settings.presets import PRESETS
from stages.settings.recipes import BUILT_IN, PREFIX, Recipe, read_recipes
from stages.settings.slurm import SLURM_PREFIX, Slurm, read_slurm_stages
from stages.settings.trainings import Finetuning, Precision, Training

RUNTIMES = ("torch", "onnxruntime", "openvino")  # libraries in which `PosePredictor` can run a network


class Workspace(Section):
    """Settings of the results folder, the hardware and the processes. They change results only by rounding."""

    intro = (
        "The workspace. No setting of this section makes a stage run again, except folder_identity for datasets that are "
        "read in place. device, processes, machines, compile and deterministic change results, but only by rounding."
    )

    exp: str = insignificant("exp", "Folder of all results.", min_length=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = insignificant(
        "auto", "Device that networks run on: auto (CUDA if available, else MPS, else CPU), cpu, cuda or mps."
    )
    workers: int = insignificant(0, "Worker processes that read, crop and draw images; 0: one per CPU core.", ge=0, le=256)
    processes: int = insignificant(
        1,
        "Processes that train one network together on this machine; with CUDA, each process needs a GPU of its own.",
        ge=1,
        le=64,
    )
    machines: int = insignificant(1, "Machines that train one network together; each machine has its own exp/.", ge=1, le=1024)
    rendezvous: str = insignificant(
        "",
        "Address host:port where the machines connect: the name of one machine, and a free port there. Needed if machines > 1.",
        pattern=r"^$|^[^:\s]+:\d+$",
    )
    run_on: Literal["here", "slurm"] = insignificant(
        "here",
        "Where trainings, evaluations, crop caches and recorded heatmaps are computed: here, or slurm (each as a Slurm "
        "job; see [slurm]).",
    )
    compile: Literal["auto", "yes", "no"] = insignificant(
        "auto",
        "Compile the network with torch.compile before training; compiling takes about a minute: yes, no, or auto (only on "
        "CUDA, for trainings of a million images or more in a single process, if triton and a C compiler are installed).",
    )
    deterministic: bool = insignificant(
        True, "Let cuDNN use only deterministic algorithms: equal runs give equal bits. false can be faster in float32."
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
        "file) or content (sha256 of each file, computed again only if the file's time changes; results then stay "
        "valid for a copy of the folder).",
    )

    @model_validator(mode="after")
    def _machines_meet(self) -> "Workspace":
        if self.machines > 1 and not self.rendezvous:
            raise ValueError("machines > 1 needs rendezvous = host:port, the address and a free port of one of the machines.")
        return self


Depth = Annotated[int, Field(ge=1, le=6)]
Count = Annotated[int, Field(ge=1, le=8)]
Width = Annotated[int, Field(ge=2, le=2048, multiple_of=2)]


class Network(Section):
    """Settings of the hourglass network: a preset, and the options that differ from the preset. The default is hg-256.

    Validation fills in all options of the preset, so giving only the name of a preset has the same result as giving all options
    of this preset.
    """

    intro = "The hourglass network. A setting that is empty has the value of the preset."

    preset: str = insignificant("hg-256", "Name of a published network; python -m tools.describe --list shows all.")
    stacks: int = setting(1, "Number of hourglasses, one after the other.", ge=1, le=16)
    stem: Numbers[Width] = setting(
        (64, 128, 128),
        "Channels of the stem: of its convolution, then of each residual block except the last, which has `features`.",
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
        (1,), "Residual blocks in a row: one number for all parts, or four: upper branch, way down, innermost level, way up."
    )
    block: Literal["bottleneck", "four", "mobile"] = setting(
        "bottleneck",
        "Kind of residual block: bottleneck (pre-activation), four (four times convolution, ReLU, normalisation) or "
        "mobile (depthwise-separable bottleneck).",
    )
    norm: Literal["batch", "instance", "group"] = setting("batch", "Normalisation: batch, instance or group.")
    upper: bool = setting(True, "Give each level of an hourglass an upper branch: true or false.")
    head_residuals: int = setting(0, "Residual blocks between an hourglass and its heatmaps.", ge=0, le=8)
    head_layers: int = setting(
        1, "1x1 convolutions with normalisation and ReLU after the residual blocks of head_residuals.", ge=1, le=8
    )
    heatmaps: Literal["linear", "sigmoid"] = setting(
        "linear",
        "How the last convolution becomes heatmaps: linear (unchanged, as published), or sigmoid (between 0 and 1, for "
        "trainings with loss = focal).",
    )
    join: Literal["sum", "remap", "concatenate"] = setting(
        "sum",
        "Input of the next hourglass: sum (input + output), remap (input + features and heatmaps, each after a 1x1 "
        "convolution), or concatenate (like remap, but without the input, and with the pooled features of the stem appended to "
        "the features before their convolution).",
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
    """Settings of the network's input."""

    intro = "The input of the network."

    resolution: int = setting(
        256, "Side of the input in pixels; heatmaps have a quarter of this side.", ge=32, le=2048, multiple_of=4
    )

    @property
    def heatmap(self) -> int:
        """Return the side of the heatmaps in pixels: a quarter of the input's side, because the stem halves the input twice."""
        return self.resolution // 4


class Models(Section):
    """Settings that choose whether networks are trained or precomputed, and which precomputed networks are used."""

    intro = "Where the networks of the chain come from."

    source: Literal["train", "precomputed"] = insignificant(
        "train", "train, or precomputed: use the networks below instead of training."
    )
    mpii: str = insignificant(
        "hg-256",
        "The MPII network: a name from the list of python -m pipeline models; or the path or address of a .safetensors "
        "file of this workspace, of a published best_model.t7, of a checkpoint of a PyTorch port, of the published archive "
        "or of its unpacked folder; or a name, then the path or address of that network.",
    )
    penn_action: str = insignificant("hg-256-ft", "The Penn Action network, given in the same way as `mpii`.")
    converter: str = insignificant(
        "res-64",
        "The converter, given in the same way as `mpii`: a .safetensors file of TrainConverter, or a model_best.t7 of "
        "skeleton2d3d. Empty: train the converter.",
    )
    forecaster: str = insignificant(
        "hg-256-res-clstm-res-64",
        "The forecasting network, given in the same way as `mpii`: a .safetensors file of Forecast, or a .t7 file of "
        "image-play. Empty: train the forecasting network, from the Penn Action network.",
    )


class Evaluation(Section):
    """Settings of how networks are evaluated, and of which files are kept."""

    intro = "How networks are evaluated, and which files are kept."

    flip_test: bool = setting(True, "Average the heatmaps of the image and of the mirrored image.")
    test_scales: Numbers[Annotated[float, Field(ge=0.25, le=4)]] = setting(
        (1.0,), "Average the heatmaps of boxes enlarged by these factors, such as 1 0.85 1.15, aligned with the first box."
    )
    decoder: Literal["subpixel", "quarter", "argmax"] = setting(
        "subpixel",
        "Position of a joint in its heatmap: subpixel (peak of the smoothed heatmap), quarter (largest pixel, moved by a "
        "quarter pixel towards the larger neighbour, as published) or argmax (largest pixel).",
    )
    precision: Precision = setting("float32", "As in [pretrain].")
    heatmaps: bool = setting(False, "Keep the heatmaps in a file (262 kB for each person of MPII at the published size).")
    mpii_test: bool = setting(
        False, "Also predict the test people of MPII and write the predictions in the format of MPII's evaluation server."
    )


class Comparison(Section):
    """Settings that choose the networks to compare."""

    intro = "Which networks are compared."

    scratch: bool = setting(
        False, "Also train a network on Penn Action from random weights, with [network] and [pretrain], and compare it."
    )
    predictions: str = insignificant(
        "",
        "Predictions of other programs for MPII's validation people, to be compared with our networks on the same people: "
        "NAME=FILE, several separated by spaces. FILE may have any format that tools.score reads.",
    )
    order: str = insignificant(
        "",
        "Path of the published valid.h5, which lists the people in the order of the predictions. Its folder must also contain "
        "valid_images.txt.",
    )

    @model_validator(mode="after")
    def _files_have_names(self) -> "Comparison":
        self.files()
        return self

    def files(self) -> dict[str, str]:
        """Return name -> path of the stored predictions. Raises ValueError for a malformed list, or if `order` is empty."""
        pairs = [word.partition("=") for word in self.predictions.split()]
        found = {name: path for name, _, path in pairs}
        if len(found) < len(pairs) or not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", n) and p for n, p in found.items()):
            raise ValueError(
                f"predictions = {self.predictions}: it should be NAME=FILE, several separated by spaces, each NAME once, of "
                "letters, digits, `.`, `_` and `-`."
            )
        if found and not self.order:
            raise ValueError("predictions need `order`: the published valid.h5, which lists the people of the predictions.")
        return found


class Sample(Section):
    """Settings of the built-in sample data, which is used wherever a source is the word `sample`."""

    intro = "The built-in sample: drawn people, used where a source is the word `sample`."

    people: int = setting(1200, "Number of people in the MPII sample.", ge=20, le=100_000)
    sequences: int = setting(12, "Number of sequences of each action in the Penn Action sample.", ge=10, le=1000)
    frames: int = setting(20, "Smallest number of frames of a sequence; the largest number is 4 higher.", ge=4, le=600)
    seed: int = setting(1, "Seed of the drawings.", ge=0, lt=2**32)

    @property
    def lengths(self) -> tuple[int, int]:
        """Return the smallest and the largest number of frames of a sequence."""
        return self.frames, self.frames + 4


class Settings(Section):
    """All settings: one field per section of luigi.cfg; `datasets`, `recipes` and `slurm_stages` hold several sections each."""

    workspace: Workspace = Workspace()
    slurm: Slurm = Slurm()
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
    slurm_stages: dict[str, Slurm] = {}

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        if self.models.source == "precomputed" and not (self.models.mpii and self.models.penn_action):
            raise ValueError(
                "[models] source = precomputed needs the names, paths or addresses of two networks, mpii and penn_action; "
                "python -m pipeline models lists the names."
            )
        for section, training in (("pretrain", self.pretrain), ("finetune", self.finetune)):
            linear = self.models.source == "train" and self.network.heatmaps == "linear"
            if training.loss == "focal" and linear:
                raise ValueError(f"[{section}] loss = focal needs [network] heatmaps = sigmoid; this setting is linear.")
            for name in training.further:
                if name not in self.known_datasets:
                    raise ValueError(
                        f"[{section}] also = {training.also}: {unknown(f'dataset {name}', name, list(self.known_datasets))}"
                    )
            if len(set(training.further)) < len(training.further):
                raise ValueError(f"[{section}] also = {training.also}: a dataset is named twice.")
        trainings = {"pretrain": self.pretrain, "finetune": self.finetune, "forecast": self.forecast}
        for (one, first), (other, second) in itertools.combinations(trainings.items(), 2):
            # Compare in lower case, because some file systems do not distinguish upper and lower case.
            if first.experiment.lower() == second.experiment.lower():
                raise ValueError(
                    f"[{one}] and [{other}] both have experiment = {second.experiment}; choose different names, because "
                    "both results lie below exp/<dataset>/."
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
                f"[network] depth = {depth} halves the heatmaps of {side} px to one pixel, over which norm = {norm} cannot "
                f"average; use a smaller depth{' or a larger micro-batch' if norm == 'batch' else ''}."
            )
        return self

    @property
    def known_datasets(self) -> dict[str, Dataset]:
        """Return name -> dataset: the built-in ones, then those of the sections [dataset:NAME]."""
        described = {n: own.own_dataset(n, found) for n, found in self.datasets.items() if isinstance(found, own.OwnDataset)}
        return DATASETS | described

    def slurm_of(self, stage: str) -> Slurm:
        """Return the settings of a stage's Slurm jobs: those of [slurm:NAME], else those of [slurm].

        NAME is the stage's name, or the beginning of this name up to a colon. If several sections fit, the longest NAME counts.
        """
        fitting = [name for name in self.slurm_stages if f"{stage}:".startswith(f"{name}:")]
        return self.slurm_stages[max(fitting, key=len)] if fitting else self.slurm

    @classmethod
    def defaults(cls) -> dict[str, Section]:
        """Return name -> section with default values, for the sections that every luigi.cfg has."""
        found: dict[str, Section] = {}
        for name, field in cls.model_fields.items():
            if name == "datasets":
                found |= field.default
            elif isinstance(field.default, Section):
                found[name] = field.default
        return found

    def section(self, name: str) -> Section:
        """Return the section with this name in luigi.cfg."""
        return self.datasets[name] if name in self.datasets else getattr(self, name)

    @classmethod
    def from_text(cls, sections: Mapping[str, Mapping[str, str]]) -> "Settings":
        """Return all settings, built from the sections of luigi.cfg: section -> setting -> text.

        Settings that are missing in the section of a training come from the recipe of this section. Raises DataError, with
        the section and the setting, for an unknown name or a wrong value.
        """
        defaults = cls.defaults()
        for name in sections:
            if name not in defaults and not name.startswith((PREFIX, own.PREFIX, SLURM_PREFIX)):
                prefixes = [f"{PREFIX}NAME", f"{own.PREFIX}NAME", f"{SLURM_PREFIX}STAGE"]
                raise DataError(unknown(f"section [{name}]", name, [*defaults, *prefixes]))
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
        datasets = {name: built.pop(name) for name in DATASETS} | _own_datasets(sections)
        return cls(**built, datasets=datasets, recipes=recipes, slurm_stages=read_slurm_stages(sections))


def _own_datasets(sections: Mapping[str, Mapping[str, str]]) -> dict[str, own.OwnDataset]:
    """Return name -> settings of the sections [dataset:NAME].

    Raises DataError, with the section's name, for an invalid name or setting.
    """
    found: dict[str, own.OwnDataset] = {}
    for section in (name for name in sections if name.startswith(own.PREFIX)):
        name = section.removeprefix(own.PREFIX)
        if not own.NAME.fullmatch(name) or name in DATASETS:
            raise DataError(
                f"[{section}]: {name or 'an empty name'} cannot be the name of a dataset; give lower-case letters, digits and "
                f"_, beginning with a letter, and none of {', '.join(DATASETS)}."
            )
        try:
            found[name] = own.OwnDataset(**{key: unquoted(text) for key, text in sections[section].items()})
            own.own_dataset(name, found[name])
        except DataError as error:
            raise DataError(f"[{section}] {str(error).removeprefix(f'[{section}] ')}") from None
    return found
