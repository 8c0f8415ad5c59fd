"""Parts of `evaluation.robustness`: the record, the worst of several attacks, files."""
