"""What the data is; imports nothing else of this project.

catalog      all datasets; each is defined in a module of its own, next to this one
own          datasets of the sections [dataset:NAME]
dataset      Dataset, the object that describes a dataset; DatasetFiles, its converted files
measures     what accuracies are measured by, and published accuracies
skeletons    joints, mirror partners, limbs; joints that two skeletons share
sources      owners and terms of a dataset; which files of its archives are needed
section      Section, the base of all settings
files, links, progress, errors   used by every room

formats, imaging and sample are rooms of their own.
"""
