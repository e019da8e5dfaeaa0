"""The ablation of the COSMOS paper, and the objectives that the paper compares, on toybox with several seeds.

    python -m benchmarks.studies.ablation [--quick] [--seeds 0 1 2] [--jobs 1] [--out DIR]

Every row is trained on the same images in the same order, for the same number of steps, from the same initial weights.
Rows differ in the views that they use and in the terms of the loss. If the command is killed, the same command
continues with the trials that are not finished. A trial is one row trained and evaluated with one seed.
"""
