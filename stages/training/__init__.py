"""The training loop, for any objective.

train          the loop
objective      what an objective gives the loop
heatmaps       the objective of pre-training and fine-tuning
learner        network, optimizer, weight EMA and gradient scaler; how far a training is
checkpointing  the checkpoints that are kept, and which one a training continues from
optimizer      the optimizer, the learning rate of each iteration, the weight EMA
logs           train.log, valid.log, metrics.csv, TensorBoard
distributed    several processes and machines
"""
