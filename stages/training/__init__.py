"""Training a network.

train        the training loop
optimizer    optimizer, learning rate schedule, weight EMA
logs         metrics of each epoch, TensorBoard
resuming     finding the checkpoint that a training continues from
distributed  training in several processes and on several machines
"""
