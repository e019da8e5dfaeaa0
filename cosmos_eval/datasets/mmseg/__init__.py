"""Segmentation datasets: mmsegmentation's classes list and decode them, this package says what is missing or wrong.

`placeholder` makes `import mmseg.datasets` work without compiled operators, `dataset_classes` adds the two datasets
that mmsegmentation lacks, `layouts` has the paths of images, masks and lists, `reader` reads them, `header_checks`
looks for files that do not fit, and `prepare` makes the masks that publishers do not provide.
"""
