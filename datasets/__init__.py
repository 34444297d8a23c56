"""Datasets: their definitions, file formats and images, and the built-in sample; imports no other package of this project.

catalog      all predefined datasets; each is defined in a module of its own, next to this one
own          datasets of the sections [dataset:NAME]
dataset      Dataset, the object that describes a dataset; DatasetFiles, its converted files
measures     measures of accuracy (PCK), and published accuracies
skeletons    joints, mirror partners, limbs; joints that two skeletons share
sources      types for the owners and terms of a dataset, and for the files that are needed from its archives
section      Section, the base of all settings
files        atomic writing, digests, encodings, errors of the disk
links        symlinks to results, or text files in place of symlinks
progress     the type of progress callbacks
errors       DataError, the exception for wrong input

formats, imaging and sample are subpackages.
"""
