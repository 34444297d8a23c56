"""Forecast human dynamics, from one image to the poses of sixteen steps (Chao et al., CVPR 2017).

movements    labelled poses of all frames, and the frames at which a forecast has its steps
network      the split hourglass with its recurrent layers
checkpoints  forecasting networks on disk
samples      training samples: an image, and the joints of all steps
objective    the objective of the network's training
scoring      PCK of each step
space        errors of forecast 3D poses in mm, for data with true 3D poses
baselines    forecasts without a network
pose_only    small networks that forecast from one labelled pose, without an image
eval_files   read and write forecasts in image-play's file format
evaluate     a network's forecasts and their accuracy
forecaster   forecasts of any image, for applications
pictures     strips of poses and animations
compare      comparison of forecasts with baselines
export       forecasting networks for other programs
published    image-play's forecasting networks
"""
