"""Do the work of every stage, in plain functions on paths, arrays and dataclasses. The functions do not need Luigi.

Each folder holds one step of the chain; the lowest layer comes first. The docstring of each folder lists its modules.

settings     the settings of luigi.cfg
machine      processes, memory, CUDA
fetching     archives and folders -> unpacked files
preparing    unpacked files -> converted datasets
loading      converted datasets -> batches
network      the hourglass and its checkpoints
torch7       Torch7 files and networks
importing    networks trained by other programs -> networks of this workspace
inference    images -> heatmaps and joints
evaluation   accuracies of networks
exporting    networks for other programs
training     the training loop
reporting    tables, figures, pages
lifting      heatmaps or 2D joints -> 3D poses
forecasting  one image -> the poses of the next steps
forecast_comparison  forecasts beside those of baselines: tables, tests, pictures
"""
