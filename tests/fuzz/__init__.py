"""Coverage-guided fuzzing of everything that reads files from strangers; see ``__main__``."""

TARGETS = ("archives", "images", "mask_csv", "masks", "overrides", "rle", "toml")
