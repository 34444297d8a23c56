"""Import networks that others have trained.

known_models    published networks by name
import_pytorch  checkpoints of two PyTorch ports of the hourglass
precomputed     networks from elsewhere as checkpoints of this workspace
"""
