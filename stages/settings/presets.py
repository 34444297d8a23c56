"""List the published networks by name, each with the [network] settings in which it differs from hg-256.

Sources:
    hg-stacked, hg-generic           pose-hg-train
    hg-256*, hg-512, hg-single*      pose-hg-train, branch image-play
    princeton-1hg, -2hg and -8hg     princeton-vl's pytorch_stacked_hourglass, without the skip convolutions that it builds
                                     but never uses; equal to pose-hg-train's model hg with nModules = 1
    hg1, hg2, hg8                    bearpaw's pytorch-pose and anibali's pytorch-stacked-hourglass
"""

from typing import Any

_WIDE: dict[str, Any] = {"stem": (64, 128, 128, 128), "outputs": 512, "residuals": (3, 3, 1, 1), "head_layers": 2}
_LATER: dict[str, Any] = {"join": "remap", "head_residuals": 1}
_BEARPAW: dict[str, Any] = _LATER | {"stem": (64, 128, 256)}
_HG8: dict[str, Any] = _BEARPAW | {"stacks": 8}

PRESETS: dict[str, dict[str, Any]] = {
    "hg-256": {},
    "hg-512": {"features": 512},
    "hg-256-no-skip": {"upper": False},
    "hg-generic": {"stacks": 2},
    "hg-single": _WIDE,
    "hg-single-no-skip": _WIDE | {"upper": False},
    "hg-stacked": _WIDE | {"stacks": 2, "join": "concatenate"},
    "princeton-1hg": _LATER,
    "princeton-2hg": _LATER | {"stacks": 2},
    "princeton-8hg": _LATER | {"stacks": 8},
    "hg1": _BEARPAW,
    "hg2": _BEARPAW | {"stacks": 2},
    # hg8, and seven modifications of hg8 from a published table. The table's "64 channels" are the channels inside a
    # bottleneck, half of `features`.
    "hg8": _HG8,
    "hg8-64": _HG8 | {"features": 128},
    "hg6": _HG8 | {"stacks": 6},
    "hg6-64-4-residuals": _HG8 | {"stacks": 6, "features": 128, "residuals": (4,), "head_residuals": 4},
    "hg8-64-instance-norm": _HG8 | {"features": 128, "norm": "instance"},
    "hg8-64-growing": _HG8 | {"features": 128, "depth": (2, 2, 2, 3, 3, 3, 4, 4)},
    "hg8-64-shrinking": _HG8 | {"features": 128, "depth": (4, 4, 3, 3, 3, 3, 2, 2)},
    "hg8-four": _HG8 | {"block": "four"},
    # The architecture follows hg_s2_b1_mobile of Stacked_Hourglass_Network_Keras.
    "hg2-mobile": _LATER | {"stacks": 2, "block": "mobile"},
}
