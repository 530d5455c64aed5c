"""How a server takes what S3 is asked: servers differ in conditions and checksums of what is written.

AWS holds a write to `If-None-Match: *` and to `If-Match` with the ETag in quotes. Ceph's gateway of release 16 refuses that, and takes the
ETag without quotes; others take no conditions, or say yes to every one. Checksums that travel behind the content are refused by some, and
kept as part of it by others. What a process finds out about a server it keeps for all that it does there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Dialect:
    """What is assumed is what AWS does.

    bare: ETags go without quotes. holds_match, holds_absent: whether a write is held to `If-Match`, and to `If-None-Match`; what isn't is
    looked up before. crc32: whether it checks that sum of what arrives; else it is given an MD5 sum, which all check.
    """

    bare: bool = False
    holds_match: bool = True
    holds_absent: bool = True
    crc32: bool = True

    @property
    def holds_all(self) -> bool:
        return self.holds_match and self.holds_absent

    def conditions(self, if_match: str | None, if_absent: bool) -> dict[str, str]:
        """Of a write, as parameters of boto3."""
        if if_match and self.holds_match:
            plain = if_match.removeprefix("W/").strip('"')
            return {"IfMatch": plain if self.bare else if_match if '"' in if_match else f'"{plain}"'}
        return {"IfNoneMatch": "*"} if if_absent and self.holds_absent else {}


_dialects: dict[tuple[str, str], Dialect] = {}


def of_server(endpoint: str, bucket: str) -> Dialect:
    return _dialects.setdefault((endpoint, bucket), Dialect())
