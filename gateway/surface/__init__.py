"""HTTP in and out. The model endpoints are pure ASGI: a FastAPI route costs 58 us a request, a BaseHTTPMiddleware 329 us."""
