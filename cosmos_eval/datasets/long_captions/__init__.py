"""Long and fine-grained captions, in the files of their authors."""
