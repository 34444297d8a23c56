"""Forecast human dynamics, from one image to the poses of sixteen steps (Chao et al., CVPR 2017).

movements    labelled poses of all frames, and the frames of the steps that follow a start
network      the split hourglass with its recurrent layers and, for 3D poses, the converter
checkpoints  forecasting networks on disk
samples      training samples: an image, and the joints of all steps
objective    the objective of the network's training
scoring      PCK by step
evaluate     forecasts from all frames of a split, and their accuracy
forecaster   forecasts from any image, for applications
export       forecasting networks for other programs
published    image-play's forecasting networks
"""
