"""Do the work of every stage, in plain functions on paths, arrays and dataclasses. The functions do not need Luigi.

Each folder contains one step of the chain and imports only folders that come before it in this list. The docstring in a
folder's __init__.py lists the modules of the folder.

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
forecast_comparison  forecasts compared with those of baselines: tables, tests, pictures
"""

import os

# With this value, a thread of torch that waits for another thread soon sleeps. By default, a waiting thread keeps its core busy
# for a while, even if the awaited thread needs this core because another program runs too. Measured on two cores, in training
# steps per second of a network of 12 convolutions: 6.3 without another program; while another program is busy, 2.1 by default
# and 3.1 with this value. OpenMP reads the variable when torch is imported, so it is set here, before a module of these folders
# imports torch.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
