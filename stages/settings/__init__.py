"""The settings of a workspace.

sections     one immutable object for each section of luigi.cfg
presets      published network architectures by name
"""
