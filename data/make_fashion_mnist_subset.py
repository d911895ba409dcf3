"""Remake `fashion_mnist_subset.npz` from the Debian package dataset-fashion-mnist and print its hash.

    python data/make_fashion_mnist_subset.py
"""

import hashlib
from pathlib import Path

import numpy as np

from labkit.training._fashion_files import DEBIAN, IdxFolder

if __name__ == "__main__":
    source = IdxFolder(DEBIAN)
    target = Path(__file__).with_name("fashion_mnist_subset.npz")
    train_images, train_labels = source.read("train", 5000)
    test_images, test_labels = source.read("test", 1000)
    np.savez_compressed(
        target,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    print(hashlib.sha256(target.read_bytes()).hexdigest(), target.stat().st_size, target.name)  # noqa: T201
