"""Ten papers on the doors of the step, one file each, on the embedded scenes."""
