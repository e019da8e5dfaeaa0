"""The paper's ablation, and the objectives that it draws side by side, trained on toybox with several seeds.

    python -m benchmarks.studies.ablation [--quick] [--seeds 0 1 2] [--jobs 1] [--out DIR]

Every row sees the same images in the same order for the same number of steps from the same initial weights; what
differs is which views of them it uses and which terms its loss has. Killed and started again, it goes on with what is
not finished.
"""
