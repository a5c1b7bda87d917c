"""Results and data on disk: atomic directories, manifest, lock, safe reading."""

from l63fast.storage.datasets import (
    read_dataset,
    write_dataset,
    write_dataset_alone,
)
from l63fast.storage.directories import (
    partial_directory,
    result_directory,
    update_directory,
)
from l63fast.storage.files import (
    parse_json,
    read_file,
    read_json,
    write_bytes,
    write_json,
)
from l63fast.storage.manifest import (
    MANIFEST,
    FileRecord,
    Manifest,
    read_bytes,
    read_manifest,
    verify_directory,
    verify_file,
)

__all__ = [
    "MANIFEST",
    "FileRecord",
    "Manifest",
    "parse_json",
    "partial_directory",
    "read_bytes",
    "read_dataset",
    "read_file",
    "read_json",
    "read_manifest",
    "result_directory",
    "update_directory",
    "verify_directory",
    "verify_file",
    "write_bytes",
    "write_dataset",
    "write_dataset_alone",
    "write_json",
]
