"""Predict heatmaps and joints from images.

predict      heatmaps and joints of a whole split
outliers     frames on which a network is probably wrong
pictures     sources of pictures, and writers of drawings
pose_tables  poses.json and poses.csv
given_boxes  boxes of people that a file gives, assigned to pictures
tracks       numbers of people in videos, and smooth joints
detector     boxes of people by an ONNX network
predictor    poses in arbitrary images, for applications
runtimes     a network as a function in PyTorch, onnxruntime or OpenVINO
video        reading and writing videos
"""
