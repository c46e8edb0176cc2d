"""Values that a page must show as text."""

HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>"
BIDI = "safe\u202egnp.exe\u2066\x1b[31m\u200b"
HUGE = "x" * (1 << 20)
SUBSCRIPTION = "../a b/" + HTML + BIDI
