"""What connects training and evaluation: callback, watch, sweeps of checkpoints, quickstart."""
