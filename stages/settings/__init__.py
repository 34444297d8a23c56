"""Define the settings of a workspace.

sections     one immutable object for each section of luigi.cfg
recipes      how a network is trained
trainings    pre-training and fine-tuning
forecasting  the forecasting network and its training
lifting      the converter and the lifter, two networks for 3D poses
slurm        jobs of Slurm
presets      published network architectures by name
luigi_cfg    the text of luigi.cfg
"""
