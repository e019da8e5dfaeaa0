"""Tables in Parquet files: images as bytes or as paths, with labels, captions, or captions and wrong captions."""
