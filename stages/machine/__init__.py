"""What the computer offers: processes, memory, CUDA.

pool         worker processes and threads
memory       memory that is kept for reuse, and the error message where it runs out
recorded     CUDA graphs
"""
