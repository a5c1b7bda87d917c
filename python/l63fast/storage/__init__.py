"""Results and data on disk: atomic directories, manifest, lock, safe reading."""

from l63fast.storage.datasets import (
    read_dataset,
    write_dataset,
    write_dataset_alone,
    write_dataset_in_blocks,
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
from l63fast.storage.parts import (
    adopt_part,
    finished_part,
    move_part,
    publish_part,
    require_space,
    sweep_parts,
)

__all__ = [
    "MANIFEST",
    "FileRecord",
    "Manifest",
    "adopt_part",
    "finished_part",
    "move_part",
    "parse_json",
    "partial_directory",
    "publish_part",
    "read_bytes",
    "read_dataset",
    "read_file",
    "read_json",
    "read_manifest",
    "require_space",
    "result_directory",
    "sweep_parts",
    "update_directory",
    "verify_directory",
    "verify_file",
    "write_bytes",
    "write_dataset",
    "write_dataset_alone",
    "write_dataset_in_blocks",
    "write_json",
]
