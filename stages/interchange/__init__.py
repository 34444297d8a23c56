"""Networks from and for other programs.

known_models    published networks by name
import_pytorch  reading checkpoints of two PyTorch ports of the hourglass
precomputed     conversion of any supported network to a checkpoint of this workspace
export          weights as safetensors, ONNX, Torch7 and HDF5
model_card      the text that accompanies exported weights
"""
