"""Predict heatmaps and joints from images.

predict      heatmaps and joints of a whole split
outliers     frames on which a network is probably wrong
predictor    poses in arbitrary images, for applications
runtimes     a network as a function in PyTorch, onnxruntime or OpenVINO
video        reading and writing videos
"""
