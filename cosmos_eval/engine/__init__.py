"""The engine: features and scores of images and texts. Tasks ask it, and it calls the model.

The path of one image through `Engine.image_features`:

1. **Digest.** The file is read and its content is hashed (`image_loading.py`). Images with equal content count as one
   from here on (`unit_features.find_distinct`): they are encoded once and share their features, so that they tie
   exactly.
2. **Cache lookup.** The features are looked up by the digest: in memory, then in the feature cache on disk
   (`cosmos_eval.cache.cached_features`). The next steps are for the images whose features are missing.
3. **Batches.** Missing images form batches of `batch_size`, in the order in which they first occur in the dataset.
   Nothing else decides the members of a batch: not workers, ranks, time or memory. The reason is that the last bits of
   a feature depend on the other members of its batch, since kernels add in an order that depends on the shape. With
   fixed batches, results are equal to the bit for any number of workers and ranks, and after a kill. Texts may be
   sorted by length before they form batches (`distinct_items.py`, `text_batches.py`).
4. **Ranks.** Whole batches are divided among the ranks (`rank_group.py`); rank 0 collects the features.
5. **Loading.** On its rank, worker processes decode and preprocess the image (`image_loading.py`).
6. **Encoding.** The batch is copied to the device and passes the tower in the chosen precision (`encoding.py`,
   `image_tower.py`, `precision.py`). If it does not fit in memory, it passes in parts (`batch_splitter.py`); only
   then may the last bits differ.
7. **Normalisation** to unit length in float32, with a check for NaN and zeros (`unit_features.py`). On CUDA the check
   is read when the next batch has been launched (`encoding.py`, `device_copies.py`).
8. **Writing.** Rank 0 writes whole batches to the feature cache and returns features in the order of the dataset.

Scores are computed from features (`scores.py`, `tiles.py`), or by a model that reads images and texts together
(`image_text_pairs.py`, `rerank.py`). Segmentation encodes sliding windows instead of whole images (`dense.py`,
`windows.py`, `window_features.py`).
"""

from cosmos_core.lazy import lazy_exports

__all__ = ["Engine", "TaskEngine", "resolve_device", "resolve_precision"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Engine": "cosmos_eval.engine.engine",
        "TaskEngine": "cosmos_eval.engine.task_engine",
        "resolve_device": "cosmos_eval.engine.precision",
        "resolve_precision": "cosmos_eval.engine.precision",
    },
)
