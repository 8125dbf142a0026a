"""An app from page blueprints, and its server on 127.0.0.1.

    server.serve(server.make_app(pages), port=8001)

Other sites in the same browser cannot use the app: requests for another host name (DNS rebinding) and forms from another origin are
rejected, and pages load nothing from elsewhere and run no inline scripts.
"""

from __future__ import annotations

from flask import Blueprint, Flask, Response, abort, request
from werkzeug.serving import WSGIRequestHandler, make_server

from bot import text
from bot.cli import UserError

MAX_REQUEST_BYTES = 64 * 1024
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send no origin
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def make_app(*pages: Blueprint) -> Flask:
    """An app with these pages, the shared style (static/page.css) and the filter `visible`."""
    app = Flask(__name__)
    app.config.update(TRUSTED_HOSTS=["127.0.0.1", "localhost"], MAX_CONTENT_LENGTH=MAX_REQUEST_BYTES)
    app.jinja_options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}  # by default Flask escapes in *.html only
    app.before_request(reject_other_origins)
    app.after_request(add_headers)
    app.add_template_filter(lambda body: text.UNPRINTABLE.sub("\ufffd", body), "visible")
    for each in pages:
        app.register_blueprint(each)
    return app


def reject_other_origins() -> None:
    origin = request.headers.get("Origin")
    if request.method == "POST" and origin is not None and origin != request.host_url.rstrip("/"):
        abort(403)


def add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response


class Handler(WSGIRequestHandler):
    """Does not print a line per request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def serve(app: Flask, port: int) -> None:
    """Serve on 127.0.0.1 until interrupted. Prints the URL. port: 0 for any free one.

    Raises:
        UserError: the port is in use.
    """
    try:
        server = make_server("127.0.0.1", port, app, threaded=True, request_handler=Handler)
    except (OSError, SystemExit):  # werkzeug prints its own advice and exits if a port is in use
        raise UserError(f"port {port} on 127.0.0.1 is not available; give another --port, or 0 for any free one") from None
    print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C to stop)", flush=True)
    server.serve_forever()
