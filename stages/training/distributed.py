"""Run a training in several processes, on one or more machines, with torch's elastic launcher.

Every process computes its share of each batch. DistributedDataParallel averages the gradients, and BatchNorm sees the whole
batch, so that the training equals a training in one process up to rounding. If a process is killed, the launcher ends the
other processes and starts all of them again, and they continue from the last checkpoint.
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
from enum import Enum
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
from stages.machine.stopping import passed_to_children
from stages.settings.sections import Workspace

RESTARTS = 3


class Stopped(Enum):
    """The value that a process returns instead of a result if the training was asked to stop."""

    STOPPED = "stopped"


STOPPED = Stopped.STOPPED

Work = TypeVar("Work")  # type of the job that `launch` gives to each process
Result = TypeVar("Result")


@dataclass(frozen=True)
class Group:
    """The processes of one training, and the number of this process among them."""

    rank: int = 0  # number of this process, from 0
    size: int = 1  # number of processes
    writes: bool = True  # whether this process writes the files of its machine

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, on the CPU; every process gets the same sum."""
        if self.size > 1:
            tensor = tensor.to("cuda" if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(tensor)
        return tensor.cpu()

    def from_first(self, make: Callable[[], Any]) -> Any:
        """Return, in every process, the result that `make` returns in the first process."""
        given = [make() if self.rank == 0 else None]
        if self.size > 1:
            dist.broadcast_object_list(given)
        return given[0]


def group() -> Group:
    """Return the group of this process; if the process was started alone, a group of one process."""
    if not dist.is_initialized():
        return Group()
    return Group(dist.get_rank(), dist.get_world_size(), os.environ["LOCAL_RANK"] == "0")


def parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a module to call instead of `network`; it computes gradients and BatchNorm statistics over all processes.

    In a group of one process, return `network`.
    """
    if not dist.is_initialized():
        return network
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    else:
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                network.set_submodule(name, GlobalBatchNorm2d.of(module))
    return DistributedDataParallel(network, forward_sync_buffers=False)


def gradients_stay_here(model: nn.Module, local: bool) -> AbstractContextManager[object]:
    """Return a context manager in whose block `backward` does not average gradients over the processes, if `local` is true."""
    return model.no_sync() if local and isinstance(model, DistributedDataParallel) else nullcontext()


class _Sum(torch.autograd.Function):
    """A differentiable sum of a tensor over all processes."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        return _Sum.apply(gradients[0])


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, on the CPU; torch's own SyncBatchNorm needs CUDA."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "GlobalBatchNorm2d":
        """Return a layer that shares the weights and statistics of `norm`."""
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made.weight, made.bias = norm.weight, norm.bias
        made.running_mean, made.running_var = norm.running_mean, norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        return made.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C, H, W), normalised over the batches of all processes; in evaluation mode, with running statistics."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        exact = x.to(self.weight.dtype)  # with autocast, x has a 16-bit dtype
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
    """Run work(job, report) in the processes that [workspace] sets; return the result of this machine's first process.

    Each process gets a pickled copy of the job. name: name of the training, equal on all machines. Raises the DataError of a
    failed process, DataError if processes are killed repeatedly, and KeyboardInterrupt if the processes were asked to stop.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for logger in ("torch.distributed", "torch.multiprocessing"):
        # Hide the launcher's log; `_process` prints the important messages.
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    # Each start needs a fresh store: in a shared store, restarted processes would find the addresses of dead processes.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    listener = threading.Thread(target=_pass_on, args=(receiver, report), daemon=True)
    with tempfile.TemporaryDirectory() as scratch:
        config = LaunchConfig(
            min_nodes=workspace.machines, max_nodes=workspace.machines, nproc_per_node=workspace.processes,
            run_id=name, rdzv_backend="c10d", rdzv_endpoint=workspace.rendezvous or "localhost:0", max_restarts=RESTARTS,
            local_addr="localhost" if workspace.machines == 1 else None,  # not the host name, which may not resolve
            logs_specs=DefaultLogsSpecs(log_dir=scratch),
            signals_to_handle="",  # Python, not the launcher, handles Ctrl-C
        )  # fmt: skip
        listener.start()
        try:
            with passed_to_children():
                results = elastic_launch(config, _process)(work, job, workspace, Path(scratch) / "error", sender)
        except ChildFailedError as error:
            code = error.get_first_failure()[1].exitcode
            if code >= 0:
                raise
            raise DataError(
                f"A training process was killed {RESTARTS + 1} times (signal {-code}), perhaps because memory ran out; set "
                "fewer [workspace] processes or workers, or a larger gradient_accumulation."
            ) from None
        finally:
            sender.close()
            listener.join()
    result = results[min(results)]  # results: global rank -> result, for each process on this machine
    if result is STOPPED:
        raise KeyboardInterrupt
    if isinstance(result, DataError):
        raise result
    return result


def _pass_on(receiver: Connection, report: Report) -> None:
    with suppress(EOFError):
        while True:
            report(*receiver.recv())


def _process(work: Callable[[Work, Report], Result], job: Work, workspace: Workspace, error_file: Path,
             sender: Connection) -> Result | DataError | Stopped:  # fmt: skip
    """Run the job in one of the processes; return its result.

    A failure in one process ends all processes. If the failure is a DataError, the process writes it to `error_file`. Then the
    launcher starts all processes once more, only to return the error, so that `launch` can raise it.
    """
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent process, and this process then ends too
    multiprocessing.set_start_method(None, force=True)  # let image readers be forked, although this process was spawned
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
        print("A training process ended; all processes continue from the last checkpoint.", file=sys.stderr)
    job = copy.deepcopy(job)  # copy, because the tensors of `job` lie in memory that all processes share
    try:
        return work(job, (lambda *progress: sender.send(progress)) if first_here else silent)
    except KeyboardInterrupt:
        return STOPPED
    except DataError as error:
        error_file.write_text(str(error))
        sys.exit(1)
    except Exception:
        time.sleep(5)  # if another process failed first, the launcher ends this process before it prints a traceback
        traceback.print_exc()
        raise
    finally:
        dist.destroy_process_group()
