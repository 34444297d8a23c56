"""Train and run pose-only forecasters: small networks that map the 2D joints of one frame to the joints of all steps.

A pose-only forecaster sees no image. Its inputs are the joints of the first frame, labelled or predicted, a mask of the known
joints, the size of the frame and, if it was trained with actions, the action. Its training takes minutes on a CPU.
"""

import shutil
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from datasets.errors import DataError
from datasets.penn_action import PENN_ACTION
from datasets.progress import Report
from stages.forecast_comparison.baselines import Forecasts
from stages.forecasting.evaluate import ForecastFiles
from stages.forecasting.movements import STEPS, Movements, published_starts
from stages.forecasting.scoring import THRESHOLD
from stages.settings.forecasting import PoseOnly
from stages.settings.sections import Workspace
from stages.settings.trainings import Training
from stages.training.objective import Resources
from stages.training.train import Job, train

WIDTH, BLOCKS, DROPOUT = 512, 3, 0.3
JOINTS = len(PENN_ACTION.skeleton.joints)
REACH = 0.2  # unit of the displacements that the network predicts, as a fraction of the frame's longer side
NEAR = 0.05  # distance at which the loss is steepest, as a fraction of the frame's longer side
FAR = 0.5  # weight of the loss's linear term, whose gradient also reaches joints that are far from their labels
CHUNK = 4096
# Augmentation of a training pose; shift and noise are in units of the frame's longer side.
ROTATION, SCALE, SHIFT = 0.25, 0.2, 0.05  # largest rotation (radians), largest relative change of scale, largest shift
HIDDEN, NOISE = 0.1, 0.005  # probability of hiding a joint (only in half of the poses); standard deviation of the noise
_ORDER, _AUGMENTATION = 0, 1  # independent RNG streams of one seed


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, WIDTH),
            nn.Dropout(DROPOUT),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PoseOnlyNet(nn.Module):
    """The network of a pose-only forecaster: poses (N, 13, 2) -> poses of all steps (N, 16, 13, 2).

    Coordinates are in units of the frame's longer side, from the frame's left upper corner; unknown joints are NaN. size:
    (N, 2), width and height of the frame in this unit; action: (N,) indices of actions, ignored by a network without actions. A
    network with its initial weights forecasts that the pose does not change.
    """

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.actions = actions
        self.first = nn.Linear(3 * JOINTS + 4 + actions, WIDTH)
        self.blocks = nn.Sequential(*(_Block() for _ in range(BLOCKS)), nn.LayerNorm(WIDTH))
        self.last = nn.Linear(WIDTH, STEPS * JOINTS * 2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, pose: Tensor, size: Tensor, action: Tensor) -> Tensor:
        known = ~pose.isnan().any(dim=-1, keepdim=True)
        filled = torch.where(known, pose, 0)
        mean = filled.sum(dim=1) / known.sum(dim=1).clamp(min=1)
        centred = torch.where(known, filled - mean[:, None], 0)
        inputs = [4 * centred.flatten(1), known.flatten(1).float(), 2 * mean - 1, size]
        if self.actions:
            inputs.append(nn.functional.one_hot(action, self.actions).float())
        moved = self.last(self.blocks(self.first(torch.cat(inputs, dim=1)))).view(-1, STEPS, JOINTS, 2)
        return (centred + mean[:, None])[:, None] + REACH * moved


class PoseOnlyObjective:
    """Trains a pose-only forecaster on labelled movements; see `stages.training.objective.Objective`.

    The loss of a visible joint at a distance d from its label is 1 - exp(-d^2 / (2 NEAR^2)) + FAR d. The mean loss is close to
    the fraction of joints that PCK@0.05 counts as wrong. acc is PCK@0.05 over all steps. In the loss and in PCK, steps beyond
    the sequence's end, where the labels repeat an earlier step, count as much as steps inside the sequence.
    """

    parts = tuple(f"pck_{step}" for step in range(1, STEPS + 1))
    loss_limit = 100.0

    def __init__(self, movements: dict[str, Movements], training: Training, with_actions: bool) -> None:
        """Build the network. movements: split (train, valid) -> movements.

        with_actions: whether the action is an input of the network.
        """
        torch.manual_seed(training.seed)
        self.names = sorted(set(movements["train"].action))
        self.network = PoseOnlyNet(len(self.names) if with_actions else 0)
        self.training = training
        self.poses = {split: _tensors(found, self.names) for split, found in movements.items()}
        self.resources = Resources(torch.device("cpu"), torch.float32, 1, (0, 1))

    def begin(self, resources: Resources, networks: Sequence[nn.Module]) -> None:
        """Store the device and the share of each batch that this process computes."""
        self.resources = resources

    def phase(self, epoch: int) -> Hashable:
        """Return 0: all epochs belong to one phase, because all iterations launch the same kernels."""
        return 0

    def batches(self, first: int, end: int) -> Iterator[dict[str, Tensor]]:
        """Yield the batches `first` to `end` - 1: movement (N, 16, 13, 2), pose (N, 13, 2), size (N, 2) and action (N,)."""
        movement, size, action = self.poses["train"]
        rank, processes = self.resources.share
        for number in range(first, end):
            order = torch.Generator().manual_seed(_seed(self.training.seed, _ORDER, number))
            chosen = torch.randint(len(movement), (self.training.batch,), generator=order)
            varying = torch.Generator().manual_seed(_seed(self.training.seed, _AUGMENTATION, number))
            moved, pose = augment(movement[chosen], size[chosen], varying)
            batch = {"movement": moved, "pose": pose, "size": size[chosen], "action": action[chosen]}
            yield {name: tensor[rank::processes] for name, tensor in batch.items()}

    def forward(self, model: nn.Module, batch: dict[str, Tensor], phase: Any) -> Tensor:
        """Return the forecast poses (N, 16, 13, 2)."""
        return model(batch["pose"], batch["size"], batch["action"])

    def loss(self, outputs: Tensor, batch: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        """Return the loss, and sums (33,): the loss, then by step: numbers of hits (16,) and of visible joints (16,)."""
        distance, seen = _distances(outputs.float(), batch["movement"])
        errors = (1 - torch.exp(-(distance**2) / (2 * NEAR**2)) + FAR * distance) * seen
        loss = errors.sum() / seen.sum().clamp(min=1) * share
        hits = ((distance < THRESHOLD) & seen).sum(dim=(0, 2))
        return loss, torch.cat([loss.detach()[None], hits.float(), seen.sum(dim=(0, 2)).float()])

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the loss, the PCK over all steps ("acc") and the PCK of each step, computed from the sums of `loss`."""
        return {"loss": sums[0].item()} | _rates(sums[1:].double())

    def validate(self, network: nn.Module, phase: Any, report: Report) -> tuple[Tensor, np.ndarray]:
        """Return sums (34,) over this process's share of the start frames, and a picture.

        The sums: number of start frames, loss, then the numbers of hits (16,) and of visible joints (16,) by step. The picture
        is one black pixel, because this training has nothing to show.
        """
        movement, size, action = self.poses["valid"]
        rank, processes = self.resources.share
        sums = torch.zeros(2 + 2 * STEPS, dtype=torch.float64)
        network.eval()
        for start in range(0, len(movement), CHUNK):
            some = slice(start + rank, start + CHUNK, processes)
            batch = {"movement": movement[some], "pose": movement[some, 0], "size": size[some], "action": action[some]}
            batch = {name: tensor.to(self.resources.device) for name, tensor in batch.items()}
            with torch.inference_mode():
                _, found = self.loss(self.forward(network, batch, phase), batch, len(batch["pose"]))
            sums += torch.cat([torch.tensor([len(batch["pose"])]), found.cpu()]).double()
            report(min(start + CHUNK, len(movement)), len(movement))
        return sums, np.zeros((1, 1, 3), np.uint8)

    def validation_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the loss, the PCK over all steps ("acc") and the PCK of each step.

        sums: the results of `validate`, added up over all processes.
        """
        return {"loss": (sums[1] / sums[0]).item()} | _rates(sums[2:])

    def save(self, path: Path, network: nn.Module, metrics: dict[str, float]) -> None:
        """Write the network's weights and, if the action is an input of the network, the names of the actions."""
        known = "\n".join(self.names) if network.get_parameter("first.weight").shape[1] > 3 * JOINTS + 4 else ""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        save_file(tensors, path, {"actions": known})

    def arrays(self, iteration: int) -> dict[str, np.ndarray]:
        """Return the batch of an iteration, for a person to inspect."""
        return {name: tensor.numpy() for name, tensor in next(self.batches(iteration, iteration + 1)).items()}


FILES = {"any-action": False, "action-known": True}  # name -> whether the network gets the action as input


def train_both(
    folder: Path, data: ForecastFiles, settings: PoseOnly, workspace: Workspace, report: Report
) -> dict[str, dict[str, float]]:
    """Train two forecasters, with and without the action as input; write NAME.safetensors and logs/NAME/ for each of them.

    Returns NAME -> accuracies of the forecaster's best epoch; the names are the keys of FILES. Raises DataError if a file of
    Penn Action is missing or damaged.
    """
    movements = {split: data.movements(split) for split in ("train", "valid")}
    found = {}
    for name, with_actions in FILES.items():
        place = folder / "logs" / name  # the files of a training contain times; a result's digest leaves out files in logs/
        place.mkdir(parents=True, exist_ok=True)
        objective = PoseOnlyObjective(movements, settings.training(), with_actions)
        alone = workspace.model_copy(update={"device": "cpu", "processes": 1, "machines": 1})  # a GPU would not be faster
        found[name] = train(Job(place, objective, settings.training(), alone), report)
        shutil.copyfile(place / "best.safetensors", folder / f"{name}.safetensors")
    return found


def load(path: Path) -> tuple[PoseOnlyNet, list[str]]:
    """Return a network that `PoseOnlyObjective.save` wrote, and the list of its actions' names, indexed by action number.

    Raises DataError for a file that is damaged or is not a pose-only forecaster.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = (file.metadata() or {})["actions"].split("\n")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        names = [name for name in names if name]
        network = PoseOnlyNet(len(names))
        network.load_state_dict(tensors)
    except (SafetensorError, OSError, LookupError, RuntimeError) as error:
        raise DataError(f"{path} is not a pose-only forecaster ({error}); run ForecastFromPoses again.") from None
    return network, names


def forecast(network: PoseOnlyNet, query: np.ndarray, sizes: np.ndarray, actions: np.ndarray) -> Forecasts:
    """Yield forecasts from poses (N, J, 2) in 0-based px, NaN where unknown, in frames of sizes (N, 2) px.

    actions: (N,) positions of the actions in the list of names that `load` returns; ignored by a network without actions.
    """
    side = sizes.max(axis=1)
    network.eval()
    for start in range(0, len(query), CHUNK):
        numbers = np.arange(start, min(start + CHUNK, len(query)))
        unit = side[numbers, None]
        pose, size = (
            torch.from_numpy(values.astype(np.float32)) for values in (query[numbers] / unit[..., None], sizes[numbers] / unit)
        )
        with torch.inference_mode():
            found = network(pose, size, torch.from_numpy(actions[numbers]))
        yield numbers, found.double().numpy() * unit[..., None, None]


def augment(movement: Tensor, size: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return augmented movements (N, 16, 13, 2), and the input poses (N, 13, 2).

    The movements are mirrored, rotated, scaled and shifted at random. The input poses are the first poses of the augmented
    movements, with noise and with some joints hidden (NaN).
    """
    n = len(movement)

    def between(limit: float, *shape: int) -> Tensor:
        return limit * (2 * torch.rand(n, *shape, generator=generator) - 1)

    mirrored = torch.stack([size[:, 0, None, None] - movement[..., 0], movement[..., 1]], dim=-1)
    mirrored = mirrored[:, :, PENN_ACTION.skeleton.mirrored()]
    flipped = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    angle, factor = between(ROTATION), 1 + between(SCALE)
    turn = (
        torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(n, 1, 2, 2) * factor[:, None, None, None]
    )
    middle = size[:, None, None] / 2
    moved = (torch.where(flipped, mirrored, movement) - middle) @ turn.transpose(2, 3) + middle + between(SHIFT, 1, 1, 2)
    pose = moved[:, 0] + NOISE * torch.randn(n, JOINTS, 2, generator=generator)
    hidden = torch.rand(n, JOINTS, 1, generator=generator) < HIDDEN * (torch.rand(n, 1, 1, generator=generator) < 0.5)
    return moved, pose.masked_fill(hidden, torch.nan)


def _tensors(movements: Movements, names: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the movement (N, 16, 13, 2), the frame size (N, 2) and the action index (N,) of each start frame.

    The unit of the movements and sizes is the frame's longer side.
    """
    starts = published_starts(movements)
    side = movements.side[starts.sequence]
    movement = movements.joints[starts.rows] / side[:, None, None, None]
    numbers = np.array([names.index(action) if action in names else 0 for action in movements.action])
    size = movements.size[starts.sequence] / side[:, None]
    first, second = (torch.from_numpy(values.astype(np.float32)) for values in (movement, size))
    return first, second, torch.from_numpy(numbers[starts.sequence])


def _distances(outputs: Tensor, movement: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances (N, 16, 13) of forecast joints to the labels, and a mask (N, 16, 13) of the visible joints."""
    seen = ~movement.isnan().any(dim=-1)
    squared = (outputs - torch.where(seen[..., None], movement, 0)).square().sum(dim=-1)
    return torch.sqrt(squared + 1e-8), seen


def _rates(sums: Tensor) -> dict[str, float]:
    hits, seen = sums.view(2, STEPS)
    parts = {f"pck_{step}": rate for step, rate in enumerate((hits / seen).tolist(), 1)}
    return {"acc": (hits.sum() / seen.sum()).item()} | parts


def _seed(seed: int, stream: int, number: int) -> int:
    return int(np.random.default_rng([seed, stream, number]).integers(2**62))
