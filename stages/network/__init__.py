"""The hourglass network.

hourglass    the network, of the blocks in blocks
cost         parameters and multiplications of each layer
checkpoints  networks on disk as safetensors files with a description
"""
