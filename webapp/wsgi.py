"""The web app for gunicorn: `gunicorn --config python:webapp.server webapp.wsgi:app`."""

from __future__ import annotations

from sqlalchemy.orm import configure_mappers

from webapp import create_app
from webapp.config import Settings
from webapp.interpreter import settle
from webapp.logs import configure

configure("web")
app = create_app(Settings.load())
# Before the processes part, so that each of them need not tie the models together.
configure_mappers()
# Nor need each compile the templates, for which the first reader of every page would wait.
for template in app.jinja_env.list_templates():
    app.jinja_env.get_template(template)
settle()
