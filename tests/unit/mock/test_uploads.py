"""Multipart forms and what is kept of them."""

import pytest

from gateway.core.errors import InvalidRequest
from gateway.mock import uploads
from gateway.mock.uploads import Shelf, StoredFile, digest, form_file, form_text, read_form

TYPE = b'multipart/form-data; boundary="xx"'
FORM = (
    b'--xx\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n\x00\r\n--x\r\n\xff\r\n--xx--\r\n"
)


def stored(number: int, content: bytes = b"x") -> StoredFile:
    return StoredFile(id=f"file-{number}", filename="a", purpose="batch", created=1, content=content)


def test_a_form_gives_its_fields_and_files_byte_for_byte() -> None:
    parts = read_form(TYPE, FORM)
    assert form_text(parts, "purpose") == "batch"
    assert form_text(parts, "other") is None
    sent = form_file(parts, "file")
    assert (sent.filename, sent.value) == ("a.bin", b"\x00\r\n--x\r\n\xff")


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        (b"application/json", b"{}", "takes multipart/form-data"),
        (b"multipart/form-data", FORM, "with a boundary"),
        (TYPE, FORM[:-10], "ends before"),
        (TYPE, b"--xx\r\nno name\r\n\r\nx\r\n--xx--\r\n", "has no name"),
    ],
)
def test_what_is_no_form_is_refused(content_type: bytes, body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_form(content_type, body)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        form_file(read_form(TYPE, FORM), "purpose")
    assert caught.value.param == "purpose"


def test_the_oldest_files_go_when_there_are_too_many() -> None:
    shelf = Shelf()
    for number in range(uploads.MAX_FILES + 2):
        shelf.keep(stored(number))
    assert len(shelf.files) == uploads.MAX_FILES
    assert "file-1" not in shelf.files


def test_the_oldest_batches_go_when_there_are_too_many() -> None:
    shelf = Shelf()
    for number in range(uploads.MAX_BATCHES + 1):
        shelf.keep_batch(str(number), {})
    assert len(shelf.batches) == uploads.MAX_BATCHES
    shelf.clear()
    assert not shelf.batches


def test_the_oldest_files_go_when_they_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_STORED_BYTES", 10)
    shelf = Shelf()
    shelf.keep(stored(1, b"x" * 6))
    shelf.keep(stored(2, b"x" * 6))
    assert list(shelf.files) == ["file-2"]
    with pytest.raises(InvalidRequest, match="up to 10 bytes"):
        shelf.keep(stored(3, b"x" * 11))


def test_a_file_is_described_as_openai_does() -> None:
    assert stored(1).describe()["object"] == "file"
    assert stored(1).describe()["bytes"] == 1
    assert "content" not in repr(stored(1))


def test_the_digest_is_sha_256() -> None:
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
