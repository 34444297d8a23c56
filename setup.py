"""Define the packages, the console script and the requirements; requirements.txt pins the versions that `make` installs."""

from pathlib import Path

from setuptools import find_packages, setup

pinned = [line for line in Path("requirements.txt").read_text().splitlines() if line and not line.startswith("#")]

setup(
    name="pose-workspace",
    version="0.1.0",
    description="From MPII Human Pose and Penn Action to hourglass weights for forecasting human dynamics",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["datasets*", "stages*", "pipeline*", "tools*"]),
    package_data={"stages.reporting": ["page.html", "movements3d.html"]},
    # torch and filelock must have at least the pinned version; for the other packages any installed version is accepted.
    install_requires=[
        line.replace("==", ">=") if line.startswith(("torch==", "filelock==")) else line.split("==")[0] for line in pinned
    ],
    extras_require={
        "openvino": ["openvino"],  # the predictor's fastest runtime on a CPU
        "labels": ["sleap-io"],  # reads label files of DeepLabCut, SLEAP and other programs
        "search": ["optuna"],  # proposes combinations of settings, for `sweep --search`
        "slurm": ["submitit"],  # submits stages as jobs of Slurm
    },
    entry_points={"console_scripts": ["pose-workspace = pipeline.__main__:main"]},
)
