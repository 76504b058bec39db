"""A table's description in Croissant 1.0, which data catalogues and loaders read (MLCommons, 2024)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfumato.data import TableColumn
from sfumato.files import digest

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "recordSet": "cr:recordSet",
    "field": "cr:field",
    "source": "cr:source",
    "fileObject": "cr:fileObject",
    "extract": "cr:extract",
    "column": "cr:column",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
}
_FORMATS = {".csv": "text/csv", ".tsv": "text/tab-separated-values", ".parquet": "application/x-parquet"}
_TYPES = {"float": "sc:Float", "int": "sc:Integer", "text": "sc:Text", "date": "sc:Date", "bool": "sc:Boolean"}


def described(path: Path, columns: Sequence[TableColumn], about: str) -> dict[str, Any]:
    """The description of the table at ``path``, which has these columns.

    Arguments:
        path: the table.
        columns: its columns.
        about: what it is, in a sentence.
    """
    file = {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "encodingFormat": _FORMATS[path.suffix.lower()],
        "sha256": digest(path),
    }
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"rows/{column.name}",
            "name": column.name,
            "dataType": _TYPES[column.type],
            "source": {"fileObject": {"@id": path.name}, "extract": {"column": column.name}},
        }
        for column in columns
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": path.parent.name,
        "description": about,
        "distribution": [file],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": fields}],
    }
