"""Forecast human dynamics, from one image to the poses of sixteen steps (Chao et al., CVPR 2017).

movements    labelled poses of all frames, and the steps that a forecast from a start has
network      the split hourglass with its recurrent layers
checkpoints  forecasting networks on disk
samples      an image and the joints of all steps
objective    the objective of the network's training
scoring      PCK by step
space        errors of 3D poses in mm by step, where the truth is known
baselines    forecasts without a network
pose_only    small networks from one labelled pose
eval_files   forecasts in image-play's files
evaluate     a network's forecasts and their accuracy
forecaster   forecasts of any image, for applications
pictures     strips of poses and animations
compare      comparison of forecasts with baselines
export       forecasting networks for other programs
published    image-play's forecasting networks
"""
