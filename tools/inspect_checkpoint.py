"""What is in a checkpoint: python -m tools.inspect_checkpoint FILE.safetensors"""

import argparse
import json
import sys
from pathlib import Path

from datasets.errors import DataError


def main() -> int:
    """Print the description, the number of parameters and the tensors; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.inspect_checkpoint", description=__doc__)
    parser.add_argument("file", type=Path, help="best.safetensors, last.safetensors, model.safetensors ...")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    options = parser.parse_args()
    from stages.checkpoints import load_tensors

    try:
        tensors, description = load_tensors(options.file)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(description, indent=1))
    if options.tensors:
        for name, tensor in tensors.items():
            print(f"{name:60} {str(tuple(tensor.shape)):22} {str(tensor.dtype).removeprefix('torch.')}")
    print(f"{len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
