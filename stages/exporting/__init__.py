"""Trained networks for other programs.

export      weights as safetensors, ONNX, Torch7 and HDF5
model_json  model.json, the description for programs
model_card  MODEL_CARD.md, the description for people
"""
