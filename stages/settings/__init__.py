"""Define the settings of a workspace.

sections     one immutable object for each section of luigi.cfg
recipes      how a network is trained
trainings    the two trainings of the chain
forecasting  the forecasting network and its training
slurm        jobs of Slurm
presets      published network architectures by name
luigi_cfg    the text of luigi.cfg
"""
