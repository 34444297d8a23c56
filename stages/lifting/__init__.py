"""Estimate 3D poses from 2D poses with two networks, the converter and the lifter, and with baselines without a network.

The input of the converter (the "3D skeleton converter" of Chao et al., CVPR 2017) is heatmaps of joints. The input of the
lifter is 2D joints; the evaluation compares the lifter with the converter. Both networks are trained on poses of motion
capture that are projected by random cameras.

convert      check motion capture, and split its clips into a training and a validation split
cameras      draw random cameras that see a whole person, and project points
bodies       change the proportions of bodies at random
samples      make training samples: poses of motion capture, seen by random cameras
recordings   shift the recorded heatmaps of a forecasting network so that they fit the joints of training samples
network      define the converter and the lifter
checkpoints  write both networks to disk and read them
objective    define batches, loss and validation for the training of both networks
train        train the converter, and train the lifter
baselines    estimate 3D poses without a network
scoring      compute errors in mm and px
evaluate     score both networks and the baselines on the validation clips of motion capture
published    read and write converters as files of skeleton2d3d
export       export converters for other programs
"""
