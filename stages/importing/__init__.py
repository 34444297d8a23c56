"""Networks that others have trained, read as networks of this workspace.

known_models    published networks by name
import_pytorch  checkpoints of two PyTorch ports of the hourglass
precomputed     networks from elsewhere as checkpoints of this workspace
"""
