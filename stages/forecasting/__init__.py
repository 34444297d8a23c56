"""Forecast human dynamics, from one image to the poses of sixteen steps (Chao et al., CVPR 2017).

movements    labelled poses of all frames; for each start frame, the frames that are forecast
network      the hourglass, split in two halves with recurrent layers between them, and, for 3D poses, the converter
checkpoints  forecasting networks on disk
samples      training samples: an image, and the joints of all steps
objective    the objective of the network's training
scoring      PCK by step
evaluate     forecasts from all frames of a split, and their accuracy
forecaster   forecasts from any image, for use in other programs
record       heatmaps of forecasts, for the converter's training
export       forecasting networks for other programs
published    image-play's forecasting networks
"""
