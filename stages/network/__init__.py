"""The hourglass network.

hourglass    the network, built from the blocks in blocks
cost         parameters and multiply-adds of each layer
checkpoints  networks on disk as safetensors files with a description
"""
