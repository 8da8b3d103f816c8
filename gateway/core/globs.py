"""What a glob of the configuration means, wherever one stands."""

import re


def glob_pattern(glob: str) -> re.Pattern[str]:
    """`glob` as an anchored pattern: `*` is any run of characters, `?` exactly one, nothing else is special."""
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in glob), re.DOTALL)
