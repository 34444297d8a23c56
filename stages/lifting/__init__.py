"""From 2D to 3D: the converter of heatmaps to poses in space (Chao et al., CVPR 2017, there "3D skeleton converter").

convert      motion capture, checked and split
cameras      random cameras that see a whole person, and projection
bodies       random body proportions
samples      poses of motion capture as a random camera sees them
network      the converter, and the lifter, its rival that sees joints instead of heatmaps
checkpoints  both networks on disk
objective    the objective of both trainings
train        both trainings
baselines    poses in space without a network
scoring      errors in mm and px
evaluate     both networks and the baselines on motion capture that was held out
"""
