"""The way out: the only package that imports an HTTP client, and the one place where its errors become ours."""
