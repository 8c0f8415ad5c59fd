"""One file a verb. Nothing heavy is imported before a verb runs, so that `psiphi --help` is quick."""
