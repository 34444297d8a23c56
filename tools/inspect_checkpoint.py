"""Print the contents of a checkpoint: python -m tools.inspect_checkpoint FILE.safetensors"""

import argparse
import json
import sys
from pathlib import Path

from datasets.links import follow
from tools import program


@program
def main() -> None:
    """Print the checkpoint's description and its numbers of tensors and values; with --tensors, also list the tensors."""
    parser = argparse.ArgumentParser(prog="python -m tools.inspect_checkpoint", description=__doc__)
    parser.add_argument("file", type=Path, help="best.safetensors, last.safetensors, model.safetensors ...")
    parser.add_argument("--tensors", action="store_true", help="also print the name and shape of every tensor")
    options = parser.parse_args()
    from stages.network.checkpoints import load_tensors

    tensors, description = load_tensors(follow(options.file))
    print(json.dumps(description, indent=1))
    if options.tensors:
        for name, tensor in tensors.items():
            print(f"{name:60} {str(tuple(tensor.shape)):22} {str(tensor.dtype).removeprefix('torch.')}")
    print(f"{len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers")


if __name__ == "__main__":
    sys.exit(main())
