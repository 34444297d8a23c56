"""Estimate 3D poses from 2D poses: two networks, the converter and the lifter, and baselines without a network.

The converter takes heatmaps of joints (the "3D skeleton converter" of Chao et al., CVPR 2017). The lifter takes 2D joints; the
evaluation compares it with the converter. Both networks learn from motion capture that random cameras see.

convert      check motion capture and split it into training and validation
cameras      draw random cameras that see a whole person, and project points
bodies       change the proportions of bodies at random
samples      make training samples: poses of motion capture as random cameras see them
recordings   heatmaps of a forecasting network, moved to the joints of training samples
network      the converter and the lifter
checkpoints  write both networks to disk and read them
objective    batches, loss and validation of both trainings
train        train the converter, and train the lifter
baselines    estimate 3D poses without a network
scoring      compute errors in mm and px
evaluate     score both networks and the baselines on the validation clips of motion capture
published    read and write the converter in the files of skeleton2d3d
export       converters for other programs
"""
