"""Predict heatmaps and joints from images.

predict      heatmaps and joints of a whole split
predictor    poses in arbitrary images, for applications
runtimes     a network as a function in PyTorch, onnxruntime or OpenVINO
video        reading and writing videos
"""
