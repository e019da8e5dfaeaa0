"""What lies on disks in place of the file that was meant, and what every reader calls it."""

WRONG_FILES = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n": "is a Git LFS pointer, not the file",
    b"/annex/objects/SHA256E-s123--abc.jpg\n": "is a git-annex pointer, not the file",
    b"../../.git/annex/objects/Xf/9k/MD5E-s7--a/MD5E-s7--a": "is a git-annex pointer, not the file",
    b"\xef\xbb\xbf\n <!DOCTYPE html>\n<title>404</title>": "is an HTML page, not the file",
    b'<?xml version="1.0"?><!DOCTYPE html><html>': "is an HTML page, not the file",
    b"<!-- saved --><html>": "is an HTML page, not the file",
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>': "is an XML page, not the file",
    b"404: Not Found": "is the answer '404: not found' of a server, not the file",
    b"Entry not found": "is the answer 'entry not found' of a server, not the file",
}
