"""The stages of the chain as Luigi tasks, a few lines each.

fetch prepare train evaluate export compare   the tasks
data         the datasets by name: their stages, result paths and scored splits
"""
