"""Train networks. An objective (network, batches, loss) defines what is trained.

train          the training loop
objective      the interface between the loop and an objective
heatmaps       the objective of pre-training and fine-tuning
learner        network, optimizer, weight EMA and gradient scaler; the progress of a training
checkpointing  the checkpoints of a training, and the choice of the checkpoint from which it continues
optimizer      the optimizer, the learning rate of each iteration, the weight EMA
logs           train.log, valid.log, metrics.csv, TensorBoard
distributed    several processes and machines
"""
