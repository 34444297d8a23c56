"""A training in several processes, on one machine or more: torch's elastic launcher, shares of batches, common sums.

Every process takes its share of each batch. The gradients are averaged by DistributedDataParallel, and BatchNorm sees the
whole batch, so that the training is that of one process, to rounding. A process that is killed takes the others with it;
the launcher starts them again, and they go on from the last checkpoint.
"""

import copy
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datasets.errors import DataError
from datasets.progress import Report, silent
from stages.inference.predict import pick_device
from stages.machine.pool import end_with_parent
from stages.settings.sections import Workspace

RESTARTS = 3

Work = TypeVar("Work")  # what each process is given to do
Result = TypeVar("Result")


@dataclass(frozen=True)
class Group:
    """The processes of a training, as one of them sees it."""

    rank: int = 0
    size: int = 1
    writes: bool = True  # the files of its machine

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same in each, on the CPU."""
        if self.size > 1:
            tensor = tensor.to("cuda" if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(tensor)
        return tensor.cpu()

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What `make` gives in the first process, given to all."""
        given = [make() if self.rank == 0 else None]
        if self.size > 1:
            dist.broadcast_object_list(given)
        return given[0]


def group() -> Group:
    """The group of this process; alone if it was not launched in one."""
    if not dist.is_initialized():
        return Group()
    return Group(dist.get_rank(), dist.get_world_size(), os.environ["LOCAL_RANK"] == "0")


def parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """The network whose gradients and BatchNorm statistics are those of all processes; to call instead of `network`."""
    if not dist.is_initialized():
        return network
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    else:
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                network.set_submodule(name, GlobalBatchNorm2d.of(module))
    return DistributedDataParallel(network, forward_sync_buffers=False)


def gradients_stay_here(model: nn.Module, wanted: bool) -> AbstractContextManager[object]:
    """A context in which `backward` leaves the gradients of the other processes alone, if that is wanted."""
    return model.no_sync() if wanted and isinstance(model, DistributedDataParallel) else nullcontext()


class _Sum(torch.autograd.Function):
    """The sum over all processes, with a gradient."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        return _Sum.apply(gradients[0])


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes; torch's own SyncBatchNorm wants CUDA."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "GlobalBatchNorm2d":
        """Return a layer that shares the weights and statistics of another."""
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made.weight, made.bias = norm.weight, norm.bias
        made.running_mean, made.running_var = norm.running_mean, norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        return made.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), N of this process, to the same shape; in evaluation mode the usual BatchNorm."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        exact = x.to(self.weight.dtype)  # with autocast, x is shorter
        var, mean = torch.var_mean(exact, dim=(0, 2, 3), correction=0)
        here, mean, var = x.numel() / x.shape[1], mean.double(), var.double()
        moments = torch.stack([torch.full_like(mean, here), here * mean, here * (var + mean.square())])
        count, total, squares = _Sum.apply(moments).unbind()
        mean = total / count
        var = squares / count - mean.square()
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(exact.dtype), self.momentum)
            self.running_var.lerp_((var * count / (count - 1)).to(exact.dtype), self.momentum)
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * (var + self.eps).rsqrt().to(exact.dtype)
        shift = self.bias - mean.to(exact.dtype) * scale
        return (exact * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(x.dtype)


def launch(work: Callable[[Work, Report], Result], job: Work, name: str, workspace: Workspace,
           report: Report = silent) -> Result:  # fmt: skip
    """Run work(job, report) in [workspace] processes and machines; return its result in the first process here.

    Each process has a copy of the job, which is pickled for it. name: the same on all machines. Raises a DataError of any
    process, and DataError where processes are killed again and again.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for logger in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # what matters, `_process` says
    # A fresh store for each start: in a shared one, processes that start again find the addresses of the dead.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    listener = threading.Thread(target=_pass_on, args=(receiver, report), daemon=True)
    with tempfile.TemporaryDirectory() as scratch:
        config = LaunchConfig(
            min_nodes=workspace.machines, max_nodes=workspace.machines, nproc_per_node=workspace.processes,
            run_id=name, rdzv_backend="c10d", rdzv_endpoint=workspace.rendezvous or "localhost:0", max_restarts=RESTARTS,
            local_addr="localhost" if workspace.machines == 1 else None,  # the machine's own name may lead nowhere
            logs_specs=DefaultLogsSpecs(log_dir=scratch),
            signals_to_handle="",  # Ctrl-C stays Python's
        )  # fmt: skip
        listener.start()
        try:
            results = elastic_launch(config, _process)(work, job, workspace, Path(scratch) / "error", sender)
        except ChildFailedError as error:
            code = error.get_first_failure()[1].exitcode
            if code >= 0:
                raise
            raise DataError(
                f"A training process was killed {RESTARTS + 1} times (signal {-code}), perhaps for want of memory; set fewer "
                "[workspace] processes or workers, or [pretrain] gradient_accumulation."
            ) from None
        finally:
            sender.close()
            listener.join()
    result = results[min(results)]  # by number among all machines
    if isinstance(result, DataError):
        raise result
    return result


def _pass_on(receiver: Connection, report: Report) -> None:
    with suppress(EOFError):
        while True:
            report(*receiver.recv())


def _process(work: Callable[[Work, Report], Result], job: Work, workspace: Workspace, error_file: Path,
             sender: Connection) -> Result | DataError:  # fmt: skip
    """One of the processes. What fails in one ends all; after a DataError they start once more, to hand it over."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and with it this process
    multiprocessing.set_start_method(None, force=True)  # processes that read images need not be spawned, as this one was
    torch.set_num_threads(max(1, torch.get_num_threads() // workspace.processes))
    cuda = pick_device(workspace.device).type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    first_here = group().writes
    errors: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(errors, error_file.read_text() if first_here and error_file.exists() else None)
    if any(errors):
        return DataError(next(filter(None, errors)))
    if first_here and os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
        print("A training process ended; all go on from the last checkpoint.", file=sys.stderr)
    job = copy.deepcopy(job)  # tensors arrive in memory that all the processes share
    try:
        return work(job, (lambda *progress: sender.send(progress)) if first_here else silent)
    except DataError as error:
        error_file.write_text(str(error))
        sys.exit(1)
    except Exception:
        time.sleep(5)  # where another process failed first, the launcher ends this one meanwhile, and says nothing twice
        traceback.print_exc()
        raise
    finally:
        dist.destroy_process_group()
