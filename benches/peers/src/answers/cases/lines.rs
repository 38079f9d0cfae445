//! Lines that parsers treat differently: blanks, line ends, folding, field names, incomplete lines.

/// A name for the table, and all that is sent.
pub const LINES: [(&str, &str); 32] = [
    ("bare LF", "GET /a.txt HTTP/1.1\nHost: a\nConnection: close\n\n"),
    ("bare LF in one field", "GET /a.txt HTTP/1.1\r\nHost: a\nConnection: close\r\n\r\n"),
    ("bare CR", "GET /a.txt HTTP/1.1\rHost: a\rConnection: close\r\r"),
    (
        "bare CR in a value",
        "GET /a.txt HTTP/1.1\r\nHost: a\r\nX: b\rc\r\nConnection: close\r\n\r\n",
    ),
    ("empty line first", "\r\nGET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    (
        "three empty lines first",
        "\r\n\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ),
    ("LF first", "\nGET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    ("space first", " GET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    ("two spaces", "GET  /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    (
        "two spaces before the version",
        "GET /a.txt  HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ),
    ("tab", "GET\t/a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    ("space last", "GET /a.txt HTTP/1.1 \r\nHost: a\r\nConnection: close\r\n\r\n"),
    ("space in the target", "GET /a b.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    ("folded field", "GET /a.txt HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\nConnection: close\r\n\r\n"),
    (
        "folded first field",
        "GET /a.txt HTTP/1.1\r\n Host: a\r\nHost: a\r\nConnection: close\r\n\r\n",
    ),
    (
        "space before the colon",
        "GET /a.txt HTTP/1.1\r\nHost: a\r\nX : b\r\nConnection: close\r\n\r\n",
    ),
    (
        "space before the colon of Host",
        "GET /a.txt HTTP/1.1\r\nHost : a\r\nConnection: close\r\n\r\n",
    ),
    ("no colon", "GET /a.txt HTTP/1.1\r\nHost: a\r\nX\r\nConnection: close\r\n\r\n"),
    ("no name", "GET /a.txt HTTP/1.1\r\nHost: a\r\n: b\r\nConnection: close\r\n\r\n"),
    (
        "a name that is no token",
        "GET /a.txt HTTP/1.1\r\nHost: a\r\nX(Y): b\r\nConnection: close\r\n\r\n",
    ),
    ("a name with _", "GET /a.txt HTTP/1.1\r\nHost: a\r\nX_Y: b\r\nConnection: close\r\n\r\n"),
    ("NUL in a value", "GET /a.txt HTTP/1.1\r\nHost: a\r\nX: b\0c\r\nConnection: close\r\n\r\n"),
    (
        "control in a value",
        "GET /a.txt HTTP/1.1\r\nHost: a\r\nX: b\x01c\r\nConnection: close\r\n\r\n",
    ),
    ("tab in a value", "GET /a.txt HTTP/1.1\r\nHost: a\r\nX: b\tc\r\nConnection: close\r\n\r\n"),
    (
        "no space after the colon",
        "GET /a.txt HTTP/1.1\r\nHost:a\r\nX:b\r\nConnection:close\r\n\r\n",
    ),
    ("empty value", "GET /a.txt HTTP/1.1\r\nHost: a\r\nX:\r\nConnection: close\r\n\r\n"),
    ("no end", "GET /a.txt HTTP/1.1\r\nHost: a\r\n"),
    ("half a line", "GET /a.t"),
    ("nothing", ""),
    ("only empty lines", "\r\n\r\n\r\n\r\n"),
    ("binary", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n"),
    ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
];
