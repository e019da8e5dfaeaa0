"""The reader `masks`: a user's own segmentation data, as a folder of masks or COCO's JSON."""
