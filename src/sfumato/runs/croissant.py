"""The description of data in Croissant 1.0, which data catalogues and loaders read (MLCommons, 2024)."""

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
    "fileSet": "cr:fileSet",
    "fileProperty": "cr:fileProperty",
    "includes": "cr:includes",
    "regex": "cr:regex",
    "transform": "cr:transform",
    "extract": "cr:extract",
    "column": "cr:column",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
}
_FORMATS = {".csv": "text/csv", ".tsv": "text/tab-separated-values", ".parquet": "application/x-parquet"}
_TYPES = {"float": "sc:Float", "int": "sc:Integer", "text": "sc:Text", "date": "sc:Date", "bool": "sc:Boolean"}


def of_table(path: Path, columns: Sequence[TableColumn], about: str) -> dict[str, Any]:
    """The description of the table at ``path``, which has these columns.

    Arguments:
        path: the table.
        columns: its columns.
        about: what it is, in a sentence.
    """
    fields = [
        _field(
            "rows",
            column.name,
            _TYPES[column.type],
            {"fileObject": {"@id": path.name}, "extract": {"column": column.name}},
        )
        for column in columns
    ]
    return _described(path, about, [_file(path, _FORMATS[path.suffix.lower()])], "rows", fields)


def of_images(path: Path, about: str) -> dict[str, Any]:
    """The description of the folder ``path``, which has a folder of PNG files for each class."""
    files = {
        "@type": "cr:FileSet",
        "@id": "images",
        "name": "images",
        "encodingFormat": "image/png",
        "includes": f"{path.name}/*/*.png",
    }
    images = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "content"}}
    classes = {
        "fileSet": {"@id": "images"},
        "extract": {"fileProperty": "fullpath"},
        "transform": {"regex": r"([^/]+)/[^/]+\.png$"},
    }
    fields = [_field("samples", "image", "sc:ImageObject", images), _field("samples", "class", "sc:Text", classes)]
    return _described(path, about, [files], "samples", fields)


def of_array(path: Path, about: str) -> dict[str, Any]:
    """The description of the .npz file ``path``, whose arrays the format has no fields for."""
    return _described(path, about, [_file(path, "application/x-npz")], "", [])


def _file(path: Path, format: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "encodingFormat": format,
        "sha256": digest(path),
    }


def _field(of: str, name: str, type: str, source: dict[str, Any]) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": f"{of}/{name}", "name": name, "dataType": type, "source": source}


def _described(
    path: Path, about: str, files: list[dict[str, Any]], of: str, fields: list[dict[str, Any]]
) -> dict[str, Any]:
    records = [{"@type": "cr:RecordSet", "@id": of, "name": of, "field": fields}] if fields else []
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": path.parent.name,
        "description": about,
        "distribution": files,
        "recordSet": records,
    }
