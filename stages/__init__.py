"""The work of every stage as plain functions on paths, arrays and dataclasses; runs and tests without Luigi.

A room for each step, from the lowest layer up; the docstring of each room lists its modules.

settings     what luigi.cfg sets
machine      processes, memory, CUDA
fetching     archives and folders -> unpacked files
preparing    unpacked files -> converted datasets
loading      converted datasets -> batches
network      the hourglass and its checkpoints
torch7       Torch7 files and networks
importing    networks that others have trained
inference    images -> heatmaps and joints
evaluation   accuracies
exporting    networks for other programs
training     the training loop
forecasting  sequences and the split hourglass for forecasting networks
reporting    tables, figures, pages
"""
