"""Executes every notebook from scratch and keeps its outputs; the first error ends it."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path) -> str:
    """Run one notebook where it lies; its name, and the seconds that it took."""
    start = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, resources=folder, record_timing=False, coalesce_streams=True).execute()
    nbformat.write(notebook, path)
    return f"{path.name}: {time.perf_counter() - start:.0f} s"


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # small networks gain nothing from threads, and a notebook runs on each core
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # of a progress bar that no notebook shows
    with ProcessPoolExecutor() as pool:
        for line in pool.map(execute, sorted(Path(__file__).parent.glob("*.ipynb"))):
            print(line, flush=True)
