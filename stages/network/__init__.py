"""Define the hourglass network, and store it on disk.

blocks       normalisation and residual blocks
hourglass    the network, built from the blocks
cost         parameters and multiply-adds of each layer
checkpoints  networks on disk as safetensors files with a description
onnx_graph   networks as ONNX graphs
"""
