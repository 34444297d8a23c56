"""Predict heatmaps and joints from images.

predict      heatmaps and joints of a whole split
outliers     frames on which a network is probably wrong
pictures     sources of pictures, and writers of drawings
pose_tables  poses.json and poses.csv
given_boxes  boxes of people from a file, assigned to pictures
tracks       tracking of people in videos, and smoothing of their joints
detector     boxes of people, found by an ONNX network
predictor    poses in arbitrary images, for applications
runtimes     a network as a function in PyTorch, onnxruntime or OpenVINO
video        reading and writing videos
"""
