"""Pages of the site that are written from the code: each module has ``write(folder)``."""
