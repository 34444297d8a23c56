"""Datasets: definitions, file formats, images and the built-in sample. This package imports no other package of the project.

catalog      all predefined datasets; each is defined in a separate module of this package
own          datasets of the sections [dataset:NAME]
dataset      Dataset, the object that describes a dataset; DatasetFiles, its converted files
measures     measures of accuracy (PCK: percentage of correct keypoints), and published accuracies
skeletons    joints, mirror partners, limbs; joints that two skeletons share
sources      types for the owners and terms of a dataset, and for the files that are needed from its archives
section      Section, the base class of all sections of settings
files        atomic writing, digests, encodings, disk errors
links        symlinks to results, or text files in place of symlinks
progress     the type of progress callbacks
errors       DataError, the exception for wrong input

formats, imaging and sample are subpackages.
"""
